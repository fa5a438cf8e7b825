"""Drives `flambeau up … -o json` as a program would: starts it, follows what it says, stops it."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import psutil

LINE_LIMIT = 1 << 22


class UpCommand:
    """One `flambeau up` for as long as the block lasts; leaving it sends SIGTERM and waits.

    Args:
        files: what to serve.
        options: further options; `--port 0` unless a port is among them.
        temp_dir: where it may put what is temporary.
    """

    def __init__(
        self, files: Sequence[Path], *options: str, temp_dir: Path, stop_within_s: float = 60.0
    ) -> None:
        port = () if "--port" in options else ("--port", "0")
        self._command = ["up", *map(str, files), "-o", "json", *port, *options]
        self._environment = {**os.environ, "TMPDIR": str(temp_dir)}
        self._stop_within_s = stop_within_s
        self._process: asyncio.subprocess.Process | None = None
        self._readers: list[asyncio.Task[None]] = []
        self._said = asyncio.Condition()
        self._open_pipes = 2
        self.last: Mapping[str, Any] = {}
        self.heard: list[tuple[float, Mapping[str, Any]]] = []  # loop time, the first deployment
        self.events: list[Mapping[str, Any]] = []
        self.errors: list[str] = []  # lines of stderr
        self.seen_pids: set[int] = set()  # every process below it that was ever noticed

    @property
    def process(self) -> asyncio.subprocess.Process:
        assert self._process is not None, "not started"
        return self._process

    async def __aenter__(self) -> Self:
        self._process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "flambeau_operator.cli", *self._command),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=self._environment,
            limit=LINE_LIMIT,
        )
        self._readers = [
            asyncio.create_task(self._read_states()),
            asyncio.create_task(self._read_errors()),
        ]
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.stop()

    async def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Send a signal if it still runs, and return its exit code once it has ended."""
        self.note_processes()
        if self.process.returncode is None:
            self.process.send_signal(number)
        try:
            async with asyncio.timeout(self._stop_within_s):
                code = await self.process.wait()
        except TimeoutError:
            self.process.kill()
            raise
        await asyncio.gather(*self._readers)
        return code

    async def until(
        self, true_of: Callable[[Mapping[str, Any]], object], what: str, within_s: float = 60.0
    ) -> Mapping[str, Any]:
        """Return the first deployment once something is true of it."""
        try:
            async with asyncio.timeout(within_s), self._said:
                await self._said.wait_for(
                    lambda: (
                        (self.last.get("deployments") and true_of(self.deployment))
                        or self._is_over()
                    )
                )
        except TimeoutError:
            raise AssertionError(f"not within {within_s:.0f} s: {what}\n{self.story()}") from None
        assert not self._is_over(), f"it ended before: {what}\n{self.story()}"
        return self.deployment

    @property
    def deployment(self) -> Mapping[str, Any]:
        """The first deployment as last told."""
        return self.last["deployments"][0]

    @property
    def pods(self) -> dict[str, int]:
        """The process id of each pod that runs."""
        return {pod["name"]: pod["pid"] for pod in self.deployment["pods"] if pod["pid"]}

    def note_processes(self) -> None:
        """Remember every process that now runs below the command."""
        try:
            below = psutil.Process(self.process.pid).children(recursive=True)
        except psutil.NoSuchProcess:
            return
        self.seen_pids |= {self.process.pid, *(process.pid for process in below)}

    def left_processes(self) -> list[int]:
        """Return the noticed processes that still run."""
        return [pid for pid in sorted(self.seen_pids) if is_running(pid)]

    def story(self) -> str:
        """Everything it said, for a failure's message."""
        logs = [Path(pod["logFile"]) for pod in self._last_pods()]
        tails = [f"--- {log}\n{log.read_text()[-3000:]}" for log in logs if log.exists()]
        state = json.dumps(self.last, indent=1)
        return "\n".join([*self.errors, *map(str, self.events), state, *tails])

    def _last_pods(self) -> list[Mapping[str, Any]]:
        return [pod for each in self.last.get("deployments", ()) for pod in each["pods"]]

    def _is_over(self) -> bool:
        return self._open_pipes == 0

    async def _closed(self) -> None:
        async with self._said:
            self._open_pipes -= 1
            self._said.notify_all()

    async def _read_states(self) -> None:
        assert self.process.stdout is not None
        async for line in self.process.stdout:
            async with self._said:
                self.last = json.loads(line)
                if self.last["deployments"]:
                    self.heard.append((asyncio.get_running_loop().time(), self.deployment))
                for each in self.last["deployments"]:
                    self.events.extend(each["events"])
                self._said.notify_all()
        await self._closed()

    async def _read_errors(self) -> None:
        assert self.process.stderr is not None
        async for line in self.process.stderr:
            self.errors.append(line.decode(errors="replace").rstrip())
        await self._closed()


def is_running(pid: int) -> bool:
    """Return whether a process lives; one that only waits to be collected does not."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def condition(deployment: Mapping[str, Any], type_: str) -> Mapping[str, Any]:
    """Return a condition of the status, {} where it is absent."""
    conditions = deployment["status"].get("conditions", ())
    return next((each for each in conditions if each["type"] == type_), {})


def is_rolled_out(deployment: Mapping[str, Any], version: str) -> bool:
    """Return whether every model serves this version in as many pods as are wanted."""
    status = deployment["status"]
    models = status.get("models", ())
    ready, _, wanted = status.get("workers", "").partition("/")  # of all pods that are wanted
    return (
        condition(deployment, "RolledOut").get("status") == "True"
        and status.get("observedGeneration") == deployment["generation"]
        and status.get("readyReplicas") == status.get("replicas")
        and bool(wanted)
        and ready == wanted
        and all(each.get("activeVersion") == version for each in models)
    )
