"""One pod as a process: started, watched, restarted when it dies, stopped in order."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import signal
import uuid
from asyncio.subprocess import DEVNULL, STDOUT, Process
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Final, Protocol
from urllib.parse import urlsplit

from flambeau_operator.doors import Pod, RuntimeClient
from flambeau_operator.errors import DoorFault, Silent, Unavailable
from flambeau_operator.local.balancer import Backend
from flambeau_operator.local.objects import write_file
from flambeau_operator.local.pod_log import trim_log

log = logging.getLogger(__name__)

LOOK_FOR_ADDRESS_S: Final = 0.02
PROBE_STARTING_S: Final = 0.05
PROBE_READY_S: Final = 1.0
SILENT_PROBES: Final = 3  # a ready pod may miss so many probes in a row but one
FIRST_RESTART_S: Final = 0.5
LAST_RESTART_S: Final = 30.0
DRAIN_CALL_S: Final = 2.0
LOOK_AT_CLOCK_S: Final = 0.2
STEADY_S: Final = 10.0  # a process that lived so long starts the back-off anew


class Wards(Protocol):
    """Who ends our process groups if we cannot any more."""

    def add(self, pid: int) -> None:
        """Look after a group."""

    def remove(self, pid: int) -> None:
        """It is gone."""


@dataclass(frozen=True, slots=True)
class Template:
    """What the pod is made of."""

    name: str
    owner_uid: str
    template_hash: str
    argv: tuple[str, ...]
    folder: Path  # of this pod alone
    files: Mapping[str, str]  # what must lie in it before a process starts: name and content
    environment: Mapping[str, str] = field(default_factory=dict)  # beside what we have ourselves


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a pod needs of the world around it."""

    runtimes: RuntimeClient
    wards: Wards
    clock: Callable[[], datetime]
    changed: Callable[[], None]  # some fact of the pod is new
    died: Callable[[LocalPod], None]  # a process ended without being asked to
    until_free: Callable[[str], Awaitable[None]]  # its connections have ended


@dataclass(frozen=True, slots=True)
class Listening:
    """Where a runtime listens, as its listening.json says."""

    inference: str
    management: str


class LocalPod:
    """A pod: one name and uid for as many processes as it takes, one after the other."""

    def __init__(self, template: Template, surroundings: Surroundings) -> None:
        self.template = template
        self.uid = str(uuid.uuid4())
        self.restarts = 0
        self.ready = False
        self.terminating = False
        self.started_at: datetime | None = None
        self.last_exit: str | None = None
        self._around = surroundings
        self._process: Process | None = None
        self._listening: Listening | None = None
        self._stop_asked = asyncio.Event()
        self._drain_s = 0.0
        self._kill_at = 0.0  # loop time
        self._leaving: asyncio.Timeout | None = None  # its connections may still end by themselves

    @property
    def name(self) -> str:
        """The pod's name."""
        return self.template.name

    @property
    def pid(self) -> int | None:
        """The process id of the runtime's front, while it runs."""
        return self._process.pid if self._process else None

    @property
    def log_file(self) -> Path:
        """What all its processes have printed."""
        return self.template.folder / "runtime.log"

    @property
    def inference_url(self) -> str:
        """Where it takes predictions; empty until it listens."""
        return self._listening.inference if self._listening else ""

    @property
    def phase(self) -> str:
        """How it stands, in one word for people."""
        if self.terminating:
            return "Draining"
        if self._process is None:
            return "BackingOff" if self.last_exit else "Starting"
        if self._listening is None:
            return "Starting"
        return "Ready" if self.ready else "NotReady"

    @property
    def backend(self) -> Backend | None:
        """Where to send requests; None while none may be sent."""
        if not self.ready or self.terminating or self._listening is None:
            return None
        url = urlsplit(self._listening.inference)
        return Backend(self.name, url.hostname or "", url.port or 80)

    def facts(self) -> Pod:
        """Return the pod as the door shows it."""
        return Pod(
            name=self.name,
            uid=self.uid,
            owner_uid=self.template.owner_uid,
            template_hash=self.template.template_hash,
            address=self._listening.management if self._listening else "",
            running=self._listening is not None,
            terminating=self.terminating,
            restarts=self.restarts,
            started_at=self.started_at,
            ready=self.ready,
        )

    def ask_to_stop(self, drain_s: float, grace_s: float) -> None:
        """Begin the end: no new connections, then drain, SIGTERM, and after the grace SIGKILL.

        Args:
            drain_s: how long its open connections may take to end by themselves.
            grace_s: how long all of it may take. Asked again, the shorter times hold.
        """
        now = asyncio.get_running_loop().time()
        if self.terminating:
            drain_s, grace_s = min(drain_s, self._drain_s), min(grace_s, self._kill_at - now)
        self._drain_s, self._kill_at = min(drain_s, grace_s), now + grace_s
        self.terminating = True
        if self._leaving is not None:
            self._leaving.reschedule(now + self._drain_s)
        self._stop_asked.set()
        self._around.changed()

    async def run(self) -> None:
        """Keep a process alive until asked to stop; cancelled, it is killed at once."""
        loop = asyncio.get_running_loop()
        deaths = 0
        while not self._stop_asked.is_set():
            began = loop.time()
            await self._live()
            if self._stop_asked.is_set():
                return
            self._around.died(self)
            deaths = 1 if loop.time() - began >= STEADY_S else deaths + 1
            self._around.changed()
            await self._rest(min(FIRST_RESTART_S * 2 ** min(deaths - 1, 16), LAST_RESTART_S))
            self.restarts += 1

    async def _rest(self, seconds: float) -> None:
        """Wait before the next process, or until there is to be none."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._stop_asked.wait()

    async def _live(self) -> None:
        """See one process from its start to its end."""
        try:
            process = await self._start()
        except (OSError, Unavailable) as error:
            self.last_exit = f"could not be started: {error}"
            return
        self._process = process
        self._around.wards.add(process.pid)
        self.started_at = self._around.clock()
        self._around.changed()
        try:
            async with asyncio.TaskGroup() as tasks:
                attending = tasks.create_task(self._attend(process))
                stopping = tasks.create_task(self._stop_when_asked(process))
                try:
                    await process.wait()
                finally:
                    attending.cancel()
                    stopping.cancel()
        finally:
            # Also what the runtime may have left in its group, and all of it if we are cancelled.
            _signal_group(process, signal.SIGKILL)
            await process.wait()
            self._around.wards.remove(process.pid)
            self._process, self._listening, self.ready = None, None, False
            self.last_exit = _exit_words(process.returncode)

    async def _start(self) -> Process:
        self._address_file.parent.mkdir(parents=True, exist_ok=True)
        self._address_file.unlink(missing_ok=True)
        for name, content in self.template.files.items():
            write_file(self.template.folder / name, content)
        with self.log_file.open("ab") as output:
            # A session of its own: Ctrl-C in a terminal reaches us alone, and we stop it in order.
            return await asyncio.create_subprocess_exec(
                *self.template.argv,
                stdin=DEVNULL,
                stdout=output,
                stderr=STDOUT,
                cwd=self.template.folder,
                env={**os.environ, **self.template.environment},
                start_new_session=True,
            )

    @property
    def _address_file(self) -> Path:
        return self.template.folder / "state" / "listening.json"

    async def _attend(self, process: Process) -> None:
        """Learn where it listens, and then again and again whether it is ready."""
        while (  # noqa: ASYNC110  another process writes it
            listening := read_listening(self._address_file, process.pid)
        ) is None:
            await asyncio.sleep(LOOK_FOR_ADDRESS_S)
        self._listening = listening
        self._around.changed()
        silent = 0
        while True:
            try:
                ready, silent = await self._around.runtimes.is_ready(self.facts()), 0
            except Silent:
                silent += 1
                ready = self.ready and silent < SILENT_PROBES
            if ready != self.ready:
                self.ready = ready
                self._around.changed()
            trim_log(self.log_file)
            await asyncio.sleep(PROBE_READY_S if ready else PROBE_STARTING_S)

    async def _stop_when_asked(self, process: Process) -> None:
        """Bring one process to its end once that is wanted."""
        await self._stop_asked.wait()
        loop = asyncio.get_running_loop()
        if self._listening is not None:
            await self._let_connections_end()
        _signal_group(process, signal.SIGTERM)
        while (left := self._kill_at - loop.time()) > 0:  # noqa: ASYNC110  it may be cut
            await asyncio.sleep(min(left, LOOK_AT_CLOCK_S))
        log.warning("pod outlived its grace", extra={"pod": self.name})
        _signal_group(process, signal.SIGKILL)

    async def _let_connections_end(self) -> None:
        """Drain: each connection is told to close with its next answer; wait for that."""
        with contextlib.suppress(DoorFault, TimeoutError):
            async with asyncio.timeout(DRAIN_CALL_S):
                await self._around.runtimes.drain(self.facts())
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._drain_s) as self._leaving:
                await self._around.until_free(self.name)
        self._leaving = None


def read_listening(path: Path, pid: int) -> Listening | None:
    """Return where the process with this id listens; None while it does not say so."""
    try:
        content = json.loads(path.read_bytes())
        if content.get("pid", pid) != pid:
            return None
        return Listening(str(content["inference"]), str(content["management"]))
    except (OSError, ValueError, KeyError, AttributeError):
        return None


def _signal_group(process: Process, number: signal.Signals) -> None:
    """Signal a runtime; SIGKILL also reaches whatever it started in its group."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        if number == signal.SIGKILL:
            os.killpg(process.pid, number)
        else:
            process.send_signal(number)  # its workers end through it, in its order


def _exit_words(code: int | None) -> str:
    if code is not None and code < 0:
        return f"killed by {signal.Signals(-code).name}"
    return f"exit code {code}"


def lowest_free(taken: Sequence[str], prefix: str) -> str:
    """Return the first of `prefix-0`, `prefix-1`, … that is not taken."""
    number = 0
    while f"{prefix}-{number}" in taken:
        number += 1
    return f"{prefix}-{number}"
