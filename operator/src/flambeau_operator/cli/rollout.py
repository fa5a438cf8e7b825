"""`flambeau rollout …`: read an object, tell how it stands, ask for a change and see it taken up.

Exit codes: 0 it is rolled out, or was done; 1 it was rolled back or is stalled, or there is nothing
to do; 2 it cannot be asked; 3 it is still going, or nobody has taken the request up.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from datetime import UTC, datetime
from typing import Any, Final

from flambeau_operator.cli import places, rollout_actions
from flambeau_operator.cli.places import Place
from flambeau_operator.cli.rollout_actions import NothingToDo, Request, Verb
from flambeau_operator.cli.rollout_json import history_to_json, view_to_json
from flambeau_operator.cli.rollout_lines import history_lines, status_lines
from flambeau_operator.cli.rollout_screen import open_screen, write_lines
from flambeau_operator.cli.rollout_view import View, view
from flambeau_operator.cli.where import Where
from flambeau_operator.doors import Key
from flambeau_operator.errors import OperatorFault, Unavailable
from flambeau_operator.resources.model_deployment import ModelDeployment, parse

LOOK_EVERY_S: Final = 1.0
TAKEN_UP_EVERY_S: Final = 0.2
REFUSED: Final = 1
UNASKED: Final = 2
STILL_GOING: Final = 3
INTERRUPTED: Final = 130

Work = Callable[[Place, Key], Awaitable[int]]


def run(where: Where, name: str, work: Work) -> int:
    """Find the deployment, do the work and return the exit code; what goes wrong is said."""
    try:
        return asyncio.run(_with_place(where, _bare(name), work))
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        # Whoever read our output has left; Python flushes stdout once more when it ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return STILL_GOING
    except NothingToDo as error:
        return _complain(error, REFUSED)
    except OperatorFault as error:
        return _complain(error, UNASKED)


def _bare(name: str) -> str:
    """Return the name alone: people write `mdep/vision`, too."""
    return name.rpartition("/")[2]


async def _with_place(where: Where, name: str, work: Work) -> int:
    async with places.find(where, name) as (place, key):
        return await work(place, key)


def _complain(error: OperatorFault, code: int) -> int:
    sys.stderr.write(f"flambeau rollout: {error}\n")
    return code


# --- status and history -------------------------------------------------------------------------


def status(*, watch: bool, timeout_s: float | None, as_json: bool) -> Work:
    """Return the work of `rollout status`.

    Args:
        watch: go on until it ended.
        timeout_s: how long to watch at most; None is as long as it takes.
        as_json: for programs: an object, and while watching one per line for each change.
    """

    async def work(place: Place, key: Key) -> int:
        if not watch:
            seen = await _look(place, key)
            _write(seen, as_json=as_json)
            return seen.outcome.exit_code
        try:
            async with asyncio.timeout(timeout_s):
                with open_screen(as_json=as_json) as screen:
                    async for seen in _looks(place, key):
                        screen(seen)
                        if seen.outcome.is_final:
                            return seen.outcome.exit_code
        except TimeoutError:
            sys.stderr.write("flambeau rollout: it was still going when --timeout ended\n")
        return STILL_GOING

    return work


async def _looks(place: Place, key: Key) -> AsyncIterator[View]:
    """Yield how it stands, again and again; a place that is silent for a while is waited for."""
    yield await _look(place, key)  # the first time, what is wrong is for the user to know
    while True:
        await asyncio.sleep(LOOK_EVERY_S)
        try:
            yield await _look(place, key)
        except Unavailable as error:
            sys.stderr.write(f"flambeau rollout: {error}; trying again\n")


def history(*, as_json: bool) -> Work:
    """Return the work of `rollout history`."""

    async def work(place: Place, key: Key) -> int:
        seen = await _look(place, key)
        if as_json:
            _write_json(history_to_json(seen))
        else:
            write_lines(history_lines(seen))
        return 0

    return work


async def _look(place: Place, key: Key) -> View:
    return view(await _read(place, key), place.label, datetime.now(UTC))


async def _read(place: Place, key: Key) -> ModelDeployment:
    return parse(await places.read(place, key))


def _write(seen: View, *, as_json: bool) -> None:
    if as_json:
        _write_json(view_to_json(seen))
    else:
        write_lines(status_lines(seen))


def _write_json(content: Mapping[str, Any]) -> None:
    sys.stdout.write(json.dumps(content, indent=2) + "\n")


# --- what changes something ---------------------------------------------------------------------


def request(word: str, model: str | None, *, step: bool, wait_s: float, as_json: bool) -> Work:
    """Return the work of `rollout promote`, `abort` and `retry`.

    Args:
        word: one of these.
        model: whose rollout; None where only one can be meant.
        step: end the current step only (promote).
        wait_s: how long to wait until the operator has taken it up; 0 does not wait.
        as_json: for programs.
    """
    verb = Verb(word)

    async def work(place: Place, key: Key) -> int:
        deployment = await _read(place, key)
        asked = _judge(deployment, verb, model, step=step)
        await place.change(key, deployment.metadata.uid, asked.annotations)
        taken_up = wait_s > 0 and await _taken_up(
            place, key, wait_s, lambda now: rollout_actions.is_taken_up(now, asked)
        )
        seen = await _look(place, key)
        words = f"asked for {asked.asks}"
        _tell(seen, words, taken_up=taken_up, waited_s=wait_s, as_json=as_json, asked=asked)
        return 0 if taken_up or not wait_s else STILL_GOING

    return work


def _judge(deployment: ModelDeployment, verb: Verb, model: str | None, *, step: bool) -> Request:
    if verb is Verb.PROMOTE:
        return rollout_actions.promote(deployment, model, step=step)
    if verb is Verb.ABORT:
        return rollout_actions.abort(deployment, model)
    return rollout_actions.retry(deployment, model)


def pause(*, paused: bool, wait_s: float, as_json: bool) -> Work:
    """Return the work of `rollout pause` and `resume`."""

    async def work(place: Place, key: Key) -> int:
        deployment = await _read(place, key)
        rollout_actions.check_pause(deployment, paused=paused)
        changed = await place.change(key, deployment.metadata.uid, {}, paused)
        generation = int(changed["metadata"]["generation"])
        taken_up = wait_s > 0 and await _taken_up(
            place, key, wait_s, lambda now: now.status.observed_generation >= generation
        )
        seen = await _look(place, key)
        words = "rollouts hold where they are" if paused else "rollouts go on"
        _tell(seen, words, taken_up=taken_up, waited_s=wait_s, as_json=as_json)
        return 0 if taken_up or not wait_s else STILL_GOING

    return work


async def _taken_up(
    place: Place, key: Key, wait_s: float, is_done: Callable[[ModelDeployment], bool]
) -> bool:
    """Look until it is done, at most for so long."""
    try:
        async with asyncio.timeout(wait_s):
            while not is_done(await _read(place, key)):  # noqa: ASYNC110  elsewhere
                await asyncio.sleep(TAKEN_UP_EVERY_S)
    except TimeoutError:
        return False
    return True


def _tell(
    seen: View,
    words: str,
    *,
    taken_up: bool,
    waited_s: float,
    as_json: bool,
    asked: Request | None = None,
) -> None:
    if as_json:
        about = {"model": asked.model, "annotations": asked.annotations} if asked else {}
        _write_json({**view_to_json(seen), "request": {**about, "takenUp": taken_up}})
        return
    late = (
        ""
        if taken_up or not waited_s
        else (f", but the operator has not taken it up within {waited_s:g} s: is it running?")
    )
    sys.stdout.write(f"{seen.name}: {words}{late}\n\n")
    sys.stdout.flush()
    write_lines(status_lines(seen))
