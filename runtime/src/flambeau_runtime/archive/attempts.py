"""Trying again after a cut, as long as anything arrives."""

from __future__ import annotations

from collections.abc import Callable
from threading import Event

from flambeau_runtime.archive.partial import NoRoom, Partial
from flambeau_runtime.errors import ArchiveInvalid, SourceNotFound, SourceUnavailable

PAUSES_S = (0.2, 1.0, 3.0, 5.0)
"""Between attempts that brought nothing; any byte that arrives begins the row again."""

FINAL = (SourceNotFound, NoRoom, ArchiveInvalid)


class DownloadStopped(Exception):
    """Nobody waits for this download any more."""


def persist(
    partial: Partial,
    attempt: Callable[[], None],
    fault_of: Callable[[Exception], SourceUnavailable | None],
    stop: Event,
    pauses_s: tuple[float, ...],
) -> None:
    """Call `attempt` until it comes to an end, and give the archive its name.

    Args:
        partial: where the bytes go; says whether an attempt brought any.
        attempt: goes on from what is there.
        fault_of: what an error of an attempt means; None: it is no fault of the source.
        stop: ends the pauses.
        pauses_s: between attempts that brought nothing.

    Raises:
        SourceUnavailable: it did not come, after several tries; SourceNotFound: it never will.
        DownloadStopped: `stop` was set.
    """
    partial.target.parent.mkdir(parents=True, exist_ok=True)
    pauses = iter(pauses_s)
    while True:
        before = partial.size()
        fault = _try_once(attempt, fault_of)
        if fault is None:
            partial.finish()
            return
        if partial.size() > before:
            pauses = iter(pauses_s)
        pause = None if isinstance(fault, SourceNotFound) else next(pauses, None)
        if pause is None:
            raise fault
        if stop.wait(pause):
            raise DownloadStopped from fault


def _try_once(
    attempt: Callable[[], None], fault_of: Callable[[Exception], SourceUnavailable | None]
) -> SourceUnavailable | None:
    """Return what went wrong, if anything did that another attempt may mend."""
    try:
        attempt()
    except FINAL:
        raise
    except Exception as error:
        fault = fault_of(error)
        if fault is None:
            raise
        fault.__cause__ = error
        return fault
    return None
