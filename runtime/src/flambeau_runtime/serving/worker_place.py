"""One worker's place: it keeps its number while processes come, serve, die and are replaced."""

from __future__ import annotations

import asyncio
import logging
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

from flambeau_runtime.errors import DeadlineExceeded, LoadFailed, WorkerLost
from flambeau_runtime.serving.batching import JobQueue
from flambeau_runtime.serving.concurrent import Team
from flambeau_runtime.serving.continuous import ContinuousLane
from flambeau_runtime.serving.crash_budget import CrashBudget
from flambeau_runtime.serving.desired import VersionSpec
from flambeau_runtime.serving.lane import Lane, LaneEnd
from flambeau_runtime.serving.link import WorkerLink, open_channel
from flambeau_runtime.serving.modes import Mode
from flambeau_runtime.serving.observed import Failure, WorkerFacts
from flambeau_runtime.serving.spawn import Birth, Spawner
from flambeau_runtime.serving.worker_process import WorkerProcess
from flambeau_runtime.serving.worker_state import WorkerEvent, WorkerState, advance
from flambeau_runtime.telemetry import Telemetry

GRACE_S = 2.0
"""How long a worker that sees the end of its socket may take to leave."""

LOST_SOCKET_S = 1.0
"""A dead worker's socket that stays open is held by something it has started elsewhere."""

PROVEN_S = 30.0
"""A worker that was ready for so long has proved itself, even without a request."""

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Site:
    """What all places of one version share."""

    queue: JobQueue
    mode: Mode
    spawner: Spawner
    telemetry: Telemetry
    measured: Callable[[list[Any]], None]  # told what handlers have measured
    load_message: Callable[[VersionSpec, tuple[int, ...]], dict[str, Any]]
    birth: Callable[[VersionSpec, tuple[int, ...], str], Birth]
    changed: Callable[[], None]
    forgive: Callable[[], None]  # deaths turned out to be a row's fault, not the workers'
    ran_out_of_memory: Callable[[], bool]  # whether the kernel has just killed one of ours for it
    max_response_bytes: int
    retry_window_s: float


class WorkerPlace:
    """One worker of one version. `run` is its life; everything else only looks or asks."""

    def __init__(
        self, number: int, spec: VersionSpec, devices: tuple[int, ...], site: Site
    ) -> None:
        self.number = number
        self.spec = spec
        self.devices = devices  # none: the CPU
        self.state = WorkerState.STARTING
        self.failure: Failure | None = None  # since the last load that succeeded
        self.failed_at = 0.0
        self.starts = 0
        self.outgrown: Failure | None = None  # it holds too much memory, and a fresh one is due
        self.budget = CrashBudget(site.retry_window_s)
        self._site = site
        self._started_at = time.time()  # noqa: TID251  shown to people, never subtracted
        self._process: WorkerProcess | None = None
        self._lane: Lane | Team | None = None
        self._link: WorkerLink | None = None
        self._busy_s = 0.0
        self._delay_s: float | None = None
        self._killed = False
        self._why_killed: Failure | None = None
        self._poke = asyncio.Event()
        self._drain_asked: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    @property
    def name(self) -> str:
        """The worker's name in logs and metrics, as TorchServe builds it."""
        return f"W-{self.number}-{self.spec.model}_{self.spec.version}"

    @property
    def restarts(self) -> int:
        """How many processes came after one that was lost or held too much."""
        return max(self.starts - 1, 0) + (self.outgrown is not None)

    @property
    def pid(self) -> int | None:
        """The process id, while there is a process."""
        return None if self._process is None else self._process.pid

    @property
    def busy_s(self) -> float:
        """How long all workers that were here have been busy."""
        return self._busy_s + (self._lane.busy_s if self._lane else 0.0)

    def facts(self, memory_bytes: int) -> WorkerFacts:
        """Return what is known about the worker now."""
        return WorkerFacts(
            str(self.number),
            self.pid,
            self.state.value,
            self.devices[0] if self.devices else None,
            self._started_at,
            memory_bytes,
        )

    async def settle(self) -> None:
        """Have an idle worker say what its handler has measured; a busy one will by itself."""
        lane, link = self._lane, self._link
        if isinstance(lane, Lane) and not lane.busy and link is not None:
            await link.settle()

    def give_way(self, *, yes: bool) -> None:
        """Let others have the CPU first, or not any more; a later process has to be told again."""
        if self._process is not None:
            self._process.give_way(yes=yes)

    def log_tail(self) -> str:
        """Return the last lines of the process that is here now, else of the last that failed."""
        if self._process is not None:
            return self._process.output.tail()
        return self.failure.log_tail if self.failure else ""

    def drain(self) -> None:
        """Take no new batch, finish the one in flight, then go."""
        if self.state in {WorkerState.DRAINING, WorkerState.STOPPED}:
            return
        serving = self.state is WorkerState.READY
        self._advance(WorkerEvent.DRAIN_ASKED)
        self._drain_asked.set_result(None)
        self._poke.set()
        if not serving:
            self.kill()

    def retry(self) -> None:
        """Start again after having failed for good."""
        if self.state is WorkerState.FAILED:
            self.budget.reset()
            self._advance(WorkerEvent.RETRY_ASKED)
            self._poke.set()

    def kill(self, failure: Failure | None = None) -> None:
        """End the process, whatever it does; `failure` says why, unless it was to go anyway."""
        if self._process is not None:
            self._why_killed = failure
            self._killed = True
            self._process.kill()

    async def run(self) -> None:
        """Live until drained."""
        while self.state is not WorkerState.STOPPED:
            if self.state is WorkerState.STARTING:
                await self._live()
            else:
                await self._pause()

    # one process

    async def _live(self) -> None:
        """Start a process, load, feed it, and see it end."""
        self.starts += 1
        self._killed, self._why_killed = False, None
        self._started_at = time.time()  # noqa: TID251  shown to people, never subtracted
        try:
            end = await self._start_and_serve()
        except LoadFailed as fault:
            self._died(fault)
        except Exception as error:
            # Whatever it is, it must not take the other workers and models with it.
            log.exception("worker failed", extra={"worker": self.name})
            self._died(LoadFailed("WorkerDied", f"{type(error).__name__}: {error}"))
        else:
            self._ended(end)

    async def _start_and_serve(self) -> LaneEnd | LoadFailed | None:
        """Return why the worker ended after it was ready; None: it was drained."""
        began = asyncio.get_running_loop().time()
        process, link, lost = await self._start()
        end: LaneEnd | None = None
        fault: LoadFailed | None = None
        try:
            if self.state is WorkerState.STARTING:
                self._advance(WorkerEvent.CONNECTED)
                await self._load(link)
                self._loaded(began)
                end = await self._feed(process, link, lost)
        except LoadFailed as error:
            fault = error
        finally:
            link.close()
            # A worker that failed to load is about to leave and still has things to say; one that
            # was lost or is late has nothing to finish.
            code = await process.end(0.0 if end else GRACE_S)
            self._process = None
        explained = _explained(fault or end, code, process.output.tail())
        return self._memory_words(explained, code)

    def _memory_words(
        self, end: LaneEnd | LoadFailed | None, code: int | None
    ) -> LaneEnd | LoadFailed | None:
        """Return the end with its reason if memory was: the worker's limit, or the kernel's."""
        if not isinstance(end, LoadFailed):
            return end
        if self._why_killed is not None:
            return LoadFailed(self._why_killed.reason, self._why_killed.message, end.log_tail)
        if code == -signal.SIGKILL and not self._killed and self._site.ran_out_of_memory():
            return LoadFailed("OutOfMemory", f"{end}: the kernel found no memory", end.log_tail)
        return end

    async def _start(self) -> tuple[WorkerProcess, WorkerLink, asyncio.Future[LaneEnd]]:
        channel = open_channel(self._site.queue.arena_fd)
        lost: asyncio.Future[LaneEnd] = asyncio.get_running_loop().create_future()
        link = WorkerLink(
            channel.front,
            lambda fault: _resolve(lost, LaneEnd(fault, 0)),
            self._site.measured,
        )
        birth = self._site.birth(self.spec, self.devices, self.name)
        process: WorkerProcess | None = None
        try:
            process = await self._site.spawner.spawn(birth, channel.worker, channel.arena_fd)
            await link.open()
        except BaseException as error:
            link.close()
            if process is not None:
                await process.end(grace_s=0.0)
            if not isinstance(error, OSError):
                raise
            raise LoadFailed("WorkerDied", f"no worker process could be started: {error}") from None
        finally:
            channel.worker.close()
        self._process = process
        return process, link, lost

    async def _load(self, link: WorkerLink) -> None:
        now = self._site.queue.spec  # batching and timeouts may have changed since this place began
        message = self._site.load_message(replace(self.spec, batching=now.batching), self.devices)
        await link.load(message, now.timeouts.startup_s)

    def _loaded(self, began: float) -> None:
        if self.state is not WorkerState.LOADING:
            return  # drained meanwhile
        load_ms = (asyncio.get_running_loop().time() - began) * 1000
        self._site.telemetry.worker_loaded(self.name, load_ms)
        self.failure = None
        log.info(
            "worker ready", extra={"worker": self.name, "pid": self.pid, "load_ms": round(load_ms)}
        )
        self._advance(WorkerEvent.LOADED)

    async def _feed(
        self, process: WorkerProcess, link: WorkerLink, lost: asyncio.Future[LaneEnd]
    ) -> LaneEnd | None:
        if self.state is not WorkerState.READY:
            return None
        self._link = link
        lane = self._lane = _lane_class(self._site.mode)(
            self._site.queue,
            link,
            lambda end: _resolve(lost, end),
            self._site.max_response_bytes,
        )
        ready_at = asyncio.get_running_loop().time()
        try:
            if not lost.done():
                lane.start()
            await _first_of(lost, self._drain_asked, process.exited)
            if process.exited.done() and not lost.done():
                await asyncio.wait([lost], timeout=LOST_SOCKET_S)
                if not lost.done():
                    lane.lost(WorkerLost("Worker died. Its process ended."))
            if not lost.done() and self._drain_asked.done():
                await lane.drain()
        finally:
            lane.close()
            self._lane = self._link = None
            self._busy_s += lane.busy_s
            if lane.batches or asyncio.get_running_loop().time() - ready_at > PROVEN_S:
                self.budget.reset()
        return lost.result() if lost.done() else None

    # its end

    def _ended(self, end: LaneEnd | LoadFailed | None) -> None:
        if self.state is WorkerState.DRAINING:
            self._advance(WorkerEvent.EXITED)
        elif isinstance(end, LoadFailed):
            self._died(end)
        elif end is None:
            self._died(LoadFailed("WorkerDied", "the worker's process ended"))
        else:  # late, or killed by a row
            self._replaced(end)

    def _replaced(self, end: LaneEnd) -> None:
        """Start the next process at once: its own lateness or a poisoned row ended this one."""
        log.warning("worker replaced", extra={"worker": self.name, "why": str(end.fault)})
        if end.poisoned_deaths:
            self._site.forgive()
        self._advance(WorkerEvent.REPLACED)

    def _died(self, fault: LoadFailed) -> None:
        if self.state is WorkerState.DRAINING:
            self._advance(WorkerEvent.EXITED)
            return
        now = asyncio.get_running_loop().time()
        self._delay_s = self.budget.spend(now)
        self.failed_at = now
        self.failure = Failure(fault.reason, str(fault), fault.log_tail, self.budget.failures)
        log.warning(
            "worker died",
            extra={
                "worker": self.name,
                "reason": fault.reason,
                "error": str(fault),
                "retry_in_s": self._delay_s,
            },
        )
        if self._delay_s is None:
            self.state = advance(self.state, WorkerEvent.DIED)
            self._advance(WorkerEvent.BUDGET_SPENT)
        else:
            self._advance(WorkerEvent.DIED)

    async def _pause(self) -> None:
        """Wait until the next start is due, or for ever if there is none; being drained ends it."""
        self._poke.clear()
        delay_s = self._delay_s if self.state is WorkerState.BACKING_OFF else None
        with suppress(TimeoutError):
            async with asyncio.timeout(delay_s):
                await self._poke.wait()
        if self.state is WorkerState.BACKING_OFF:
            self._advance(WorkerEvent.RETRY_DUE)

    def _advance(self, event: WorkerEvent) -> None:
        self.state = advance(self.state, event)
        self._site.changed()


def _lane_class(mode: Mode) -> type[Lane] | type[Team]:
    if mode.concurrent:
        return Team
    return ContinuousLane if mode.continuous else Lane


def _resolve(future: asyncio.Future[LaneEnd], end: LaneEnd) -> None:
    if not future.done():
        future.set_result(end)


async def _first_of(*futures: asyncio.Future[Any]) -> None:
    await asyncio.wait(futures, return_when=asyncio.FIRST_COMPLETED)


def _explained(
    end: LaneEnd | LoadFailed | None, code: int | None, tail: str
) -> LaneEnd | LoadFailed | None:
    """Return the end with what only the process tells: its exit code and its last words."""
    if isinstance(end, LoadFailed):
        died = f" ({exit_words(code)})" if end.reason == "WorkerDied" and code is not None else ""
        return LoadFailed(end.reason, f"{end}{died}", end.log_tail or tail)
    if end is None or isinstance(end.fault, DeadlineExceeded) or end.poisoned_deaths:
        return end
    died = f" ({exit_words(code)})" if code is not None else ""
    return LoadFailed("WorkerDied", f"{end.fault}{died}", tail)


def exit_words(code: int) -> str:
    """Return an exit code in words; a signal by its name."""
    if code >= 0:
        return f"exit code {code}"
    with suppress(ValueError):
        name = signal.Signals(-code).name
        return f"{name}, perhaps out of memory" if name == "SIGKILL" else name
    return f"signal {-code}"
