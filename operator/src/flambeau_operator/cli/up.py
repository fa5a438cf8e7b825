"""`flambeau up`: files in, processes served, until a signal says stop.

The order is for a fast start: read and check, start the pods, and only then load what draws.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path

from flambeau_operator.cli.edits import Edits
from flambeau_operator.cli.problems import Checked
from flambeau_operator.cli.report import Shown
from flambeau_operator.cli.screen import Screen, open_screen
from flambeau_operator.errors import PortInUse, StateDirInUse
from flambeau_operator.session import LocalSession

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
STOPPED_AT_ONCE = 130  # what shells say of a program that Ctrl-C has ended


def run(files: Sequence[Path], port: int, state_dir: Path | None, *, as_json: bool) -> int:
    """Serve until told to stop and return the exit code: 0 as asked, 1 it could not be."""
    session = LocalSession(state_dir, base_port=port)
    edits = Edits(files, session)
    checked = edits.check()
    if checked.problems:
        _complain(checked.problems)
        return 1
    try:
        return asyncio.run(_serve(session, edits, checked, as_json=as_json))
    except (PortInUse, StateDirInUse) as error:
        _complain([f"flambeau up: {error}"])
        return 1


def _complain(lines: Iterable[object]) -> None:
    for line in lines:
        sys.stderr.write(f"{line}\n")


async def _serve(session: LocalSession, edits: Edits, checked: Checked, *, as_json: bool) -> int:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in STOP_SIGNALS:
        loop.add_signal_handler(number, _stop, stop, number)
    async with session:
        if problems := await edits.take_up(checked):
            _complain(problems)
            return 1
        with open_screen(as_json=as_json) as screen:
            await _until(stop, edits, session, screen)
            _unless_left(screen.stopping, stop)
    return 0


def _stop(stop: asyncio.Event, number: signal.Signals) -> None:
    """Stop in order; at a second Ctrl-C at once, and leave the pods to the session's guard."""
    if stop.is_set() and number is signal.SIGINT:
        os._exit(STOPPED_AT_ONCE)
    stop.set()


def _unless_left(write: Callable[[], None], stop: asyncio.Event) -> None:
    """Write, or stop: a reader of our output who has left is as good as Ctrl-C."""
    try:
        write()
    except BrokenPipeError:
        # Python flushes stdout once more when it ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        stop.set()


async def _until(stop: asyncio.Event, edits: Edits, session: LocalSession, screen: Screen) -> None:
    """Follow the files and draw what changes, until `stop` is set."""
    async with asyncio.TaskGroup() as tasks:
        running = [
            tasks.create_task(_follow(edits, screen, stop)),
            tasks.create_task(_draw(session, edits, screen, stop)),
        ]
        await stop.wait()
        for task in running:
            task.cancel()


async def _follow(edits: Edits, screen: Screen, stop: asyncio.Event) -> None:
    async for problems in edits.follow():
        _unless_left(partial(screen.complain, problems), stop)


async def _draw(session: LocalSession, edits: Edits, screen: Screen, stop: asyncio.Event) -> None:
    while True:
        shown = [Shown(each, edits.applied(each.key)) for each in session.observe()]
        _unless_left(partial(screen.show, shown), stop)
        await session.wait_change()
