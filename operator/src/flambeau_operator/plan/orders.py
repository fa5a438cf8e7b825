"""What a person asks of a rollout by annotation: said once, obeyed once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from flambeau_operator.names import ABORT, PROMOTE, RETRY
from flambeau_operator.resources.deployment_status import Handled, RolloutStatus


@dataclass(frozen=True, slots=True)
class Orders:
    """What is asked of one candidate now, and what has been obeyed after this pass.

    `promote`: all the way; `next_step`: this step only.
    """

    promote: bool = False
    next_step: bool = False
    abort: bool = False
    retry: bool = False
    handled: Handled = field(default_factory=Handled)


def read_orders(
    annotations: Mapping[str, str], before: RolloutStatus, spec_hash: str, known: set[str | None]
) -> Orders:
    """Read the annotations that concern this candidate.

    Args:
        annotations: of the object.
        before: the rollout's memory.
        spec_hash: the candidate's identity.
        known: the hashes that `retry` may name: of the candidate, and of what failed.
    """
    promote = annotations.get(PROMOTE)
    abort, retry = (_new(annotations, before.handled, key) for key in (ABORT, RETRY))
    # It holds as long as this try of the candidate lasts, and never for a later one.
    counts = promote != before.handled.promote or before.spec_hash == spec_hash
    all_the_way = counts and promote == spec_hash
    this_step = counts and before.step is not None and promote == f"{spec_hash}/{before.step}"
    retried = retry is not None and retry in known
    return Orders(
        promote=all_the_way,
        next_step=this_step,
        abort=abort == spec_hash,
        retry=retried,
        handled=Handled(
            promote=_handled(annotations, before.handled, PROMOTE, all_the_way or this_step),
            abort=_handled(annotations, before.handled, ABORT, abort == spec_hash),
            retry=_handled(annotations, before.handled, RETRY, retried),
        ),
    )


def _word(key: str) -> str:
    return key.rpartition("/")[2]


def _new(annotations: Mapping[str, str], handled: Handled, key: str) -> str | None:
    """Return an annotation's value, unless it has been obeyed."""
    value = annotations.get(key)
    return None if value == getattr(handled, _word(key)) else value


def _handled(
    annotations: Mapping[str, str], handled: Handled, key: str, obeyed: bool
) -> str | None:
    """Return the value that counts as obeyed from now on; forgotten once nobody says it."""
    value = annotations.get(key)
    before: str | None = getattr(handled, _word(key))
    return value if obeyed else before if value is not None else None
