"""How many workers a version should have for the load it sees: a pure choice from facts.

Up at once, when jobs wait longer than the batches under way explain; down slowly, one by one, when
one worker fewer would have had time to spare for a while. Between the two lies a wide band in which
nothing changes, so that a steady load never has workers come and go.
"""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Rules:
    """When the number of workers changes.

    Attributes:
        patience_s: a job may wait so long in any case.
        rounds: and as long as so many batches take.
        spare_share: a worker is spare when those without it would be busy at most so much.
        spare_s: and it goes when it was spare for so long.
    """

    patience_s: float = 0.1
    rounds: float = 1.5
    spare_share: float = 0.6
    spare_s: float = 30.0


RULES = Rules()


@dataclass(frozen=True, slots=True)
class Demand:
    """What is seen of one version.

    Attributes:
        least: workers.min.
        most: workers.max.
        wanted: how many are wanted now.
        ready: those that serve.
        starting: those on their way.
        queued: jobs that wait.
        per_batch: jobs that go together.
        wait_s: how long the oldest one has waited.
        batch_s: how long a batch takes.
        busy: share of the time that ready workers were busy lately, 0 to 1.
        spare_for_s: how long a worker has been spare without a break.
        room: how many workers more there is memory for; None: not measured.
    """

    least: int
    most: int
    wanted: int
    ready: int
    starting: int = 0
    queued: int = 0
    per_batch: int = 1
    wait_s: float = 0.0
    batch_s: float = 0.0
    busy: float = 0.0
    spare_for_s: float = 0.0
    room: int | None = None


def is_pressed(demand: Demand, rules: Rules = RULES) -> bool:
    """Return whether jobs wait longer than the batches under way explain."""
    return demand.wait_s > max(rules.patience_s, rules.rounds * demand.batch_s)


def is_spare(demand: Demand, rules: Rules = RULES) -> bool:
    """Return whether one worker fewer would have had time to spare lately."""
    if demand.ready <= 1 or demand.starting or is_pressed(demand, rules):
        return False
    return demand.busy * demand.ready <= rules.spare_share * (demand.ready - 1)


def workers_for(demand: Demand, rules: Rules = RULES) -> int:
    """Return how many workers to want now: between least and most, and within memory."""
    wanted = min(max(demand.wanted, demand.least), demand.most)
    if is_pressed(demand, rules) and demand.starting == 0 and demand.ready > 0:
        more = _more(demand)
        if demand.room is not None:
            more = min(more, max(demand.room, 0))
        return min(wanted + more, demand.most)
    if wanted > demand.least and demand.spare_for_s >= rules.spare_s and is_spare(demand, rules):
        return wanted - 1
    return wanted


def _more(demand: Demand) -> int:
    """Return how many to add: as many as have a batch to take, at most twice what there is.

    Those that were started have to be ready before the next are asked for, so doubling is how a
    burst is met in few steps.
    """
    waiting = math.ceil(demand.queued / max(demand.per_batch, 1))
    return max(1, min(waiting, demand.ready))
