"""What a trial of a candidate has shown: for people, and for programs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from flambeau_operator.cli.rollout_lines import Line, table
from flambeau_operator.names import versioned
from flambeau_operator.resources.pod_state import Failure

MOST_SHOWN: Final = 5
MIB: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class Tried:
    """One version in a trial."""

    version: str
    ready: bool = False
    load_s: float | None = None  # from being told to ready: fetched, loaded, warmed
    bytes: int = 0  # of its archive
    failure: Failure | None = None
    worker_bytes: int | None = None  # None: not measured
    device_bytes: int | None = None
    requests: int = 0
    errors: tuple[str, ...] = ()
    unexpected: tuple[str, ...] = ()  # answers that are not those that the requests must have
    unlike_itself: int = 0  # answers to a request asked again that were other ones
    p50_ms: float | None = None
    p95_ms: float | None = None


@dataclass(frozen=True, slots=True)
class Trialled:
    """One candidate beside the version that it would replace."""

    model: str
    old: Tried | None
    new: Tried
    compared: int = 0
    differences: tuple[str, ...] = ()

    @property
    def is_good(self) -> bool:
        """Whether the candidate loads, answers everything, and answers what it must."""
        return self.new.ready and not self.new.errors and not self.new.unexpected


def trial_lines(trialled: Trialled) -> tuple[Line, ...]:
    """Draw what a trial has shown."""
    new, name = trialled.new, versioned(trialled.model, trialled.new.version)
    lines: list[Line] = [((f"  trial of {name}", "bold"),)]
    if trialled.old and trialled.old.failure:
        told = trialled.old.failure
        said = f"{trialled.old.version} cannot be loaded here, nothing to compare with: "
        lines.append(((f"    {said}{told.reason}: {told.message}", "yellow"),))
    if new.failure:
        lines.append(((f"    failed: {new.failure.reason}: {new.failure.message}", "red"),))
        lines.extend(((f"      {line}", "dim"),) for line in new.failure.log_tail.splitlines())
    tried = [each for each in (trialled.old, new) if each and each.ready]
    if tried:
        head = ("VERSION", "LOADED IN", "WORKER HOLDS", "REQUESTS", "ERRORS", "P50", "P95")
        lines.extend(
            ((f"    {row}", "" if number else "dim"),)
            for number, row in enumerate(table([head, *map(_row, tried)]))
        )
    lines.extend(_answers(trialled))
    return tuple(lines)


def _row(tried: Tried) -> tuple[str, ...]:
    held = _mib(tried.worker_bytes)
    if tried.device_bytes:
        held += f" + {_mib(tried.device_bytes)} on its device"
    return (
        tried.version,
        "-" if tried.load_s is None else f"{tried.load_s:.1f} s",
        held,
        str(tried.requests),
        str(len(tried.errors)),
        _ms(tried.p50_ms),
        _ms(tried.p95_ms),
    )


def _mib(amount: int | None) -> str:
    return "not measured" if amount is None else f"{amount // MIB} MiB"


def _ms(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f} ms"


def _answers(trialled: Trialled) -> Iterator[Line]:
    new = trialled.new
    yield from _listed("errors", new.errors, "red")
    yield from _listed("answers that are not as expected", new.unexpected, "red")
    if trialled.compared:
        same = trialled.compared - len(trialled.differences)
        said = f"    {same} of {trialled.compared} answers are the same as of the old version"
        yield ((said, "green" if not trialled.differences else "yellow"),)
        yield from _listed("differences", trialled.differences, "yellow")
    for each in (trialled.old, new):
        if each and each.unlike_itself:
            said = f"{each.version} itself answered {each.unlike_itself} repeated requests"
            yield ((f"    {said} with something else", "yellow"),)
    if new.ready and not new.requests:
        yield (("    nothing was asked: give --requests, or the model a warm-up", "yellow"),)


def _listed(what: str, found: tuple[str, ...], style: str) -> Iterator[Line]:
    if not found:
        return
    yield ((f"    {what}:", style),)
    for each in found[:MOST_SHOWN]:
        yield ((f"      {each}", style),)
    if len(found) > MOST_SHOWN:
        yield ((f"      and {len(found) - MOST_SHOWN} more", "dim"),)


def trial_to_json(trialled: Trialled) -> dict[str, Any]:
    """Write what a trial has shown; docs/releases.md promises these names to programs."""
    return {
        "model": trialled.model,
        "good": trialled.is_good,
        "old": _tried_to_json(trialled.old) if trialled.old else None,
        "new": _tried_to_json(trialled.new),
        "compared": trialled.compared,
        "different": len(trialled.differences),
        "differences": list(trialled.differences),
    }


def _tried_to_json(tried: Tried) -> dict[str, Any]:
    failure = tried.failure
    return {
        "version": tried.version,
        "ready": tried.ready,
        "loadSeconds": tried.load_s,
        "archiveBytes": tried.bytes,
        "workerBytes": tried.worker_bytes,
        "deviceBytes": tried.device_bytes,
        "requests": tried.requests,
        "errors": list(tried.errors),
        "unexpected": list(tried.unexpected),
        "unlikeItself": tried.unlike_itself,
        "latencyMs": {"p50": tried.p50_ms, "p95": tried.p95_ms},
        "failure": {
            "reason": failure.reason,
            "message": failure.message,
            "logTail": failure.log_tail,
        }
        if failure
        else None,
    }
