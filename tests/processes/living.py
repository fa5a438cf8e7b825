"""A model from a few lines of source, brought to life with real worker processes."""

from __future__ import annotations

import asyncio
import json
import os
import textwrap
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

from flambeau_runtime.archive.package import Package
from flambeau_runtime.serving.desired import Source, Timeouts, VersionSpec
from flambeau_runtime.serving.job import Payload, ask
from flambeau_runtime.serving.supervisor import Supervisor
from flambeau_runtime.settings import Settings
from flambeau_runtime.telemetry import Telemetry

ECHO = """
    import os

    def handle(data, context):
        if data is not None:
            return [os.getpid() for _ in data]
"""

SPEC = VersionSpec("m", "1.0", Source("file:///m"), timeouts=Timeouts(response_s=20, startup_s=30))


def package(folder, source, **config):
    """Write a handler and return what an opened archive with it would be."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "handler.py").write_text(textwrap.dedent(source))
    return Package("m", "1.0", folder, {}, None, 0, "handler.py", config)


def without_torch(folder):
    """Return the environment of a machine where torch is not installed."""
    (folder / "torch.py").write_text("raise ImportError('torch is not installed')")
    return {**os.environ, "PYTHONPATH": str(folder)}


@asynccontextmanager
async def living(tmp_path, source=ECHO, *, config=None, devices=(), fork=None, own=None, **wishes):
    """Yield a live version of a handler and its supervisor.

    Workers are executed. With `fork` they are forked: from a template with torch ("torch"), or from
    one in whose world torch is not installed ("plain"), which is there in a moment. `own` is an
    environment of the model's own.
    """
    opened = package(tmp_path / "model", source, **(config or {}))
    opened = replace(opened, environment=own)
    settings = Settings(preload_torch=fork is not None, devices=devices)
    environment = without_torch(tmp_path) if fork == "plain" else None
    async with Supervisor(settings, Telemetry(), environment) as supervisor:
        if fork == "plain" and supervisor.template_pid is not None:
            await until(lambda: supervisor.template_ready)
        yield supervisor.add(replace(SPEC, **wishes), opened), supervisor


async def answer(live, body=b"{}", timeout_s=20.0):
    """Ask a live version and return the decoded answer."""
    payload = Payload("id", b"", body, "application/json")
    prediction = await ask(live, payload, timeout_s, "m")
    return json.loads(bytes(prediction.body))


async def until(condition, timeout_s=20.0):
    """Wait until a condition holds; fail when it does not in time."""
    async with asyncio.timeout(timeout_s):
        while not condition():  # noqa: ASYNC110  a worker's facts have no event of their own
            await asyncio.sleep(0.005)


def is_alive(pid):
    """Whether a process runs; a zombie does not."""
    try:
        with open(f"/proc/{pid}/stat") as stat:  # noqa: PTH123  read at once, in a loop
            return stat.read().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def exists(pid):
    """Whether there is such a process; a zombie is one."""
    return Path(f"/proc/{pid}").exists()


def parent(pid):
    """Return the id of a process's parent."""
    with open(f"/proc/{pid}/stat") as stat:  # noqa: PTH123  read at once
        return int(stat.read().rpartition(")")[2].split()[1])


def threads(pid):
    """Return how many threads a process has."""
    return len(list(Path(f"/proc/{pid}/task").iterdir()))


async def gone_in_time(pids, timeout_s=10.0):
    """Wait until none of the processes runs; return whether that came true."""
    try:
        await until(lambda: not any(map(is_alive, pids)), timeout_s)
    except TimeoutError:
        return False
    return True
