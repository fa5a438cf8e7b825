"""The report: conditions, phases and counts, computed anew from facts at each pass."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from flambeau_operator.errors import FieldProblem
from flambeau_operator.resources.deployment_status import Status


def refused_status(
    previous: Status, generation: int, problems: Sequence[FieldProblem], now: datetime
) -> Status:
    """Return the status of an object that cannot be parsed: Stalled, and the rest as it was."""
    raise NotImplementedError
