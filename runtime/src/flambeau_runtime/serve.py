"""A runtime's life: everything is built, served until told to stop, and drained.

Nothing but this and `parts.py` and `doors.py` knows how the parts hang together.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path

import uvloop

from flambeau_runtime import logs, state_dir
from flambeau_runtime.api.listener import url_of_address
from flambeau_runtime.doors import IDLE_S, ROLES, Doors, Urls, bind_all, watch_machine
from flambeau_runtime.errors import InvalidSettings
from flambeau_runtime.parts import Parts, build
from flambeau_runtime.serving import orphans
from flambeau_runtime.serving.catalogue import Catalogue
from flambeau_runtime.settings import Settings
from flambeau_runtime.telemetry import Telemetry, make_telemetry

log = logging.getLogger(__name__)

OnStarted = Callable[[Urls], None]

LOOK_AGAIN_S = 3600.0
START_PATIENCE_S = 30.0
UNTOUCHED_S = 5.0
"""How long nothing idle is closed after SIGTERM; at most half of the drain delay."""
LISTENING_FILE = "listening.json"


def run(settings: Settings, log_level: str = "INFO", on_started: OnStarted | None = None) -> None:
    """Serve in this process until SIGTERM or SIGINT.

    Args:
        settings: the whole configuration.
        log_level: the lowest level that is logged.
        on_started: called once, when the listeners answer and start-up models take requests, or
            half a minute after they were asked for.

    Raises:
        InvalidSettings: an address or the state directory cannot be had.
    """
    with (
        state_dir.held(settings) as complete,
        logs.writing(settings.log_dir, log_level, metrics_dir=settings.metrics_dir) as access,
        asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
    ):
        telemetry = make_telemetry(complete)
        if access is not None:
            telemetry.listen(access.note)
        try:
            runner.run(serve(complete, telemetry, on_started))
        except InvalidSettings:
            raise
        except Exception:
            # In the background nobody sees what Python prints at the end of a process.
            log.exception("ended unexpectedly")
            raise


async def serve(
    settings: Settings, telemetry: Telemetry, on_started: OnStarted | None = None
) -> None:
    """Serve until SIGTERM or SIGINT; see `run`."""
    if settings.introduction:
        log.info(settings.introduction)
    bound = bind_all(settings)
    for warning in settings.warnings:
        log.warning("configuration", extra={"why": warning})
    async with _signals() as signals, AsyncExitStack() as stack:
        stack.enter_context(orphans.buried())
        parts = await build(settings, telemetry, stack)
        doors = Doors(parts, bound)
        await doors.open()
        urls = doors.urls()
        if settings.log_dir is not None:
            _say_that_it_listens(settings)
        with _listening_file(settings.state_dir, urls):
            log.info("listening", extra=dict(urls))
            async with asyncio.TaskGroup() as tasks:
                meanwhile = (
                    tasks.create_task(_start(parts, doors, on_started)),
                    tasks.create_task(_ask_to_leave_while_away(parts.catalogue, doors)),
                    tasks.create_task(watch_machine(parts)),
                )
                await signals.stop.wait()
                for task in meanwhile:
                    task.cancel()
                await _drain(parts, doors, signals)
    log.info("stopped")


def _say_that_it_listens(settings: Settings) -> None:
    """Say what scripts around TorchServe wait for."""
    for role in ROLES:
        where = url_of_address(getattr(settings, role))
        log.info("%s API bind to: %s", role.capitalize(), where)
    logging.getLogger(logs.CONSOLE).info("Model server started.")


async def _start(parts: Parts, doors: Doors, on_started: OnStarted | None) -> None:
    async with asyncio.TaskGroup() as tasks:
        asking = tasks.create_task(_ask_for_start_models(parts))
        await doors.open_grpc()
        # Whoever waits for the start does not wait for a download of an hour.
        await asyncio.wait([asking], timeout=START_PATIENCE_S)
        if on_started is not None:
            on_started(doors.urls())


async def _ask_for_start_models(parts: Parts) -> None:
    if parts.settings.managed is None:
        await parts.start_models.ask_for_all()
        parts.catalogue.begin()


@contextmanager
def _listening_file(folder: Path, urls: Urls) -> Iterator[None]:
    """Tell others on this machine where we listen, for as long as we do."""
    path = folder / LISTENING_FILE
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps({"pid": os.getpid(), **urls}))
    partial.replace(path)
    try:
        yield
    finally:
        path.unlink(missing_ok=True)


# the end


async def _ask_to_leave_while_away(catalogue: Catalogue, doors: Doors) -> None:
    """Have every answer close its connection from `POST /drain` on, and during a swap.

    A Service that has taken this runtime out sends no new connections; those that exist would go
    on asking it while it has no version to answer with.
    """
    while not catalogue.draining:
        away = bool(catalogue.leaving)
        doors.ask_to_leave(away=away)
        if away:
            doors.close_idle()
        await catalogue.wait_changed(catalogue.revision, IDLE_S / 2 if away else LOOK_AGAIN_S)
    doors.ask_to_leave()


@dataclass(frozen=True, slots=True)
class _Signals:
    stop: asyncio.Event
    hurry: asyncio.Event

    def take(self) -> None:
        (self.hurry if self.stop.is_set() else self.stop).set()


@asynccontextmanager
async def _signals() -> AsyncIterator[_Signals]:
    """Take SIGTERM and SIGINT: the first says stop, the second says now."""
    taken = _Signals(asyncio.Event(), asyncio.Event())
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, taken.take)
    try:
        yield taken
    finally:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)


async def _drain(parts: Parts, doors: Doors, signals: _Signals) -> None:
    """Stop being ready, wait until others have noticed, answer what was asked, close."""
    log.info("draining")
    parts.catalogue.start_draining()
    doors.ask_to_leave()
    await _let_clients_leave(parts.settings.limits.drain_delay_s, doors, signals)
    async with asyncio.TaskGroup() as tasks:
        hurrying = tasks.create_task(_hurry_when_told(signals, doors))
        await doors.close(inference_only=True)
        parts.catalogue.close()
        await doors.close(inference_only=False)
        hurrying.cancel()


async def _let_clients_leave(seconds: float, doors: Doors, signals: _Signals) -> None:
    """Wait until others have noticed, and close early what lies idle.

    A request that is sent just as its connection is closed is lost. At first nothing is closed but
    by an answer: the end of a pod slows its neighbours down, and a client that was held up reaches
    for whatever it has kept before it notices what has ended. Then what was not used for a second
    goes, which is hardly picked; at the end, when the start of a successor does the same to
    clients, nothing is left to pick.
    """
    loop = asyncio.get_running_loop()
    end = loop.time() + seconds
    await _wait(signals.hurry, min(seconds / 2, UNTOUCHED_S))
    while (left := end - loop.time()) > 0 and not signals.hurry.is_set():
        doors.close_idle()
        await _wait(signals.hurry, min(left, IDLE_S / 2))


async def _hurry_when_told(signals: _Signals, doors: Doors) -> None:
    await signals.hurry.wait()
    doors.hurry()


async def _wait(event: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return
