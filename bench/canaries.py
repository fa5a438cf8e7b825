"""Simulate canaries and count how often the analysis is right: the operator's own, fed by dice.

A canary goes 5 → 25 → 50 → 100 %. Each step pauses for 2 minutes, in which the new version gets
200 to 2,000 requests (drawn) and the old one its share of the same traffic. Every 2 s the operator
looks. A step without a clear result at the end of its pause goes on with the same traffic, up to
`maxWait` (30 minutes); then the canary is held (`onInconclusive: Pause`).

    python -m bench.canaries                              the four promises, 2,000 canaries each
    python -m bench.canaries --canaries 200               quicker, and less sure
    python -m bench.canaries --case errors-5-against-1    one case; below they are listed
    python -m bench.canaries --all                        also the cases at the limits
    python -m bench.canaries --hurried                    no step outlasts its pause: what is not
                                                          clear by then goes to the next one
    python -m bench.canaries -o json > canaries.json

Exits with 1 if a promise is not kept. The same seed gives the same figures.
"""

import argparse
import json
import statistics
import sys
import time
from collections import Counter
from dataclasses import asdict, dataclass, field
from math import erf, inf, log, sqrt

import numpy as np

from flambeau_operator.plan.analysis import Sample, Verdict, analyse
from flambeau_operator.resources.pod_state import LatencyCounts
from flambeau_operator.resources.rollout import Analysis, Step
from flambeau_runtime.serving.counters import FINE_BUCKETS_MS

STEPS = tuple(Step.model_validate({"weight": weight, "pause": "2m"}) for weight in (5, 25, 50, 100))
EVERY_S = 2.0
LOOKS = round(STEPS[0].pause_s / EVERY_S)
FEWEST, MOST = 200, 2000
BIG = 50
"""Percent of the traffic: a bad version shall never get so much."""


@dataclass(frozen=True, slots=True)
class Version:
    """What a version is in truth."""

    errors: float = 0.01  # share of its requests
    median_ms: float | None = None  # of log-normal latencies; None: nobody looks
    sigma: float = 0.5

    def shares(self) -> np.ndarray:
        """Return the share of its requests in each bucket."""
        if self.median_ms is None:
            return np.array([1.0])
        below = [self._up_to(bound) for bound in (*FINE_BUCKETS_MS, inf)]
        return np.diff(np.array([0.0, *below]))

    def _up_to(self, ms: float) -> float:
        if ms == inf:
            return 1.0
        return (1 + erf(log(ms / self.median_ms) / self.sigma / sqrt(2))) / 2


@dataclass(frozen=True, slots=True)
class Case:
    """Two versions, the rules, and what is promised about them."""

    name: str
    old: Version
    new: Version
    fail_on: dict
    wrong_at_most: float | None = None  # share of canaries that are rolled back, in any step
    caught_at_least: float | None = None  # share that is rolled back before `BIG`
    extra: bool = False

    @property
    def rules(self) -> Analysis:
        """Return the rules as the resource would have them."""
        return Analysis.model_validate({"failOn": self.fail_on})


ONE_POINT = {"errorRate": {"maxIncrease": "1%"}}
TENTH = {"latencyP95": {"maxIncrease": "10%"}}
QUICK = Version(median_ms=100.0)
SLOWER = Version(median_ms=130.0)
CASES = (
    Case("errors-equal", Version(), Version(), ONE_POINT, wrong_at_most=0.02),
    Case("errors-5-against-1", Version(), Version(errors=0.05), ONE_POINT, caught_at_least=0.98),
    Case("latency-equal", QUICK, QUICK, TENTH, wrong_at_most=0.02),
    Case("latency-plus-30", QUICK, SLOWER, TENTH, caught_at_least=0.98),
    # What the promises rest on, and what lies between them.
    Case(
        "equal-by-every-rule",
        QUICK,
        QUICK,
        {
            "errorRate": {"max": "2%", "maxIncrease": "0.5%"},
            "latencyP50": {"maxIncrease": "10%"},
            "latencyP95": {"max": "300ms", "maxIncrease": "20%"},
            "latencyP99": {"maxIncrease": "30%"},
        },
        wrong_at_most=0.02,
        extra=True,
    ),
    Case(
        "equal-and-nothing-allowed",
        Version(),
        Version(),
        {"errorRate": {"maxIncrease": "0%"}},
        wrong_at_most=0.02,
        extra=True,
    ),
    Case(
        "latency-equal-and-nothing-allowed",
        QUICK,
        QUICK,
        {"latencyP95": {"maxIncrease": "0%"}},
        wrong_at_most=0.02,
        extra=True,
    ),
    Case("errors-at-the-limit", Version(), Version(errors=0.02), ONE_POINT, extra=True),
    Case(
        "latency-at-the-limit",
        QUICK,
        SLOWER,
        {"latencyP95": {"maxIncrease": "30%"}},
        extra=True,
    ),
    Case(
        "latency-plus-30-of-15",
        QUICK,
        SLOWER,
        {"latencyP95": {"maxIncrease": "15%"}},
        extra=True,
    ),
)


class Traffic:
    """The counts of one version in one step, growing from look to look."""

    def __init__(self, name: str, version: Version, dice: np.random.Generator) -> None:
        self.name, self.version, self.dice = name, version, dice
        self.shares = version.shares()
        self.requests = self.errors = 0
        self.buckets = np.zeros(len(self.shares), dtype=np.int64)

    def looks(self, requests: int):
        """Yield what is known at each look of one pause with so many requests."""
        arrived = self.dice.multinomial(requests, [1 / LOOKS] * LOOKS)
        failed = self.dice.binomial(arrived, self.version.errors)
        timed = self.dice.multinomial(arrived, self.shares)
        for count, bad, buckets in zip(arrived.tolist(), failed.tolist(), timed, strict=True):
            self.requests += count
            self.errors += bad
            self.buckets += buckets
            yield Sample(self.name, self.requests, self.errors, 0, self._latency())

    def _latency(self) -> LatencyCounts:
        if self.version.median_ms is None:
            return LatencyCounts()
        return LatencyCounts(FINE_BUCKETS_MS, tuple(self.buckets.tolist()))


@dataclass(slots=True)
class Tally:
    """How the canaries of one case ended."""

    canaries: int = 0
    ends: Counter = field(default_factory=Counter)  # by (end, before BIG)
    unclear: int = 0  # canaries with a step that had no clear result at the end of its pause
    until_caught: list[int] = field(default_factory=list)  # requests of the new version, all steps

    def share(self, end: str, *, early: bool | None = None) -> float:
        """Return the share of the canaries that ended so."""
        found = sum(n for (e, b), n in self.ends.items() if e == end and early in {None, b})
        return found / max(1, self.canaries)


def walk_step(
    case: Case, step: Step, dice: np.random.Generator, *, hurried: bool
) -> tuple[Verdict, int, bool]:
    """Play one step; return its result, the new version's requests, and if its pause was enough."""
    rules = case.rules
    new = Traffic("new", case.new, dice)
    old = Traffic("old", case.old, dice) if step.weight < 100 else None
    requests = int(dice.integers(FEWEST, MOST + 1))
    verdict = Verdict.WAITING
    pauses = 1 if hurried else round(rules.max_wait_s / step.pause_s)
    for pause in range(pauses):
        beside = requests * (100 - step.weight) // step.weight
        known_of_old = old.looks(beside) if old else [None] * LOOKS
        for look, (before, now) in enumerate(
            zip(known_of_old, new.looks(requests), strict=True), pause * LOOKS + 1
        ):
            verdict = analyse(rules, before, now, step=step, steps=len(STEPS)).verdict
            if verdict is Verdict.FAILED:
                return verdict, new.requests, pause == 0
            if verdict is Verdict.PASSED and look >= LOOKS:
                return verdict, new.requests, look == LOOKS
    return Verdict.INCONCLUSIVE, new.requests, False


def walk_canary(case: Case, dice: np.random.Generator, tally: Tally, *, hurried: bool) -> None:
    """Play one canary to its end and count it."""
    requests, unclear, end, weight = 0, False, "promoted", 100
    for step in STEPS:
        verdict, seen, clear = walk_step(case, step, dice, hurried=hurried)
        requests += seen
        unclear |= not clear
        if verdict is Verdict.FAILED or (verdict is Verdict.INCONCLUSIVE and not hurried):
            end = "rolled back" if verdict is Verdict.FAILED else "held"
            weight = step.weight
            break
    tally.canaries += 1
    tally.unclear += unclear
    tally.ends[end, weight < BIG] += 1
    if end == "rolled back":
        tally.until_caught.append(requests)


def play(case: Case, canaries: int, seed: int, *, hurried: bool, show: bool) -> dict:
    """Play a case; return its figures."""
    dice = np.random.default_rng([seed, *case.name.encode()])
    tally, started, shown = Tally(), time.process_time(), 0.0
    for number in range(1, canaries + 1):
        walk_canary(case, dice, tally, hurried=hurried)
        if show and time.monotonic() - shown > 0.5:
            shown = time.monotonic()
            print(f"\r{case.name}: {number:,} of {canaries:,} ", end="", file=sys.stderr)
    if show:
        print("\r" + " " * 60 + "\r", end="", file=sys.stderr)
    return {
        "case": case.name,
        "old": asdict(case.old),
        "new": asdict(case.new),
        "failOn": case.fail_on,
        "canaries": canaries,
        "hurried": hurried,
        "rolledBack": tally.share("rolled back"),
        "rolledBackBefore50": tally.share("rolled back", early=True),
        "held": tally.share("held"),
        "promoted": tally.share("promoted"),
        "unclear": tally.unclear / canaries,
        "requestsUntilCaught": statistics.median(tally.until_caught)
        if tally.until_caught
        else None,
        "promise": promise(case),
        "kept": kept(case, tally),
        "cpuSeconds": time.process_time() - started,
    }


def promise(case: Case) -> str:
    """Return the promise in words."""
    if case.wrong_at_most is not None:
        return f"rolled back ≤ {case.wrong_at_most:.0%}"
    if case.caught_at_least is not None:
        return f"before {BIG} % ≥ {case.caught_at_least:.0%}"
    return "none"


def kept(case: Case, tally: Tally) -> bool:
    """Tell whether the promise was kept."""
    if case.wrong_at_most is not None:
        return tally.share("rolled back") <= case.wrong_at_most
    if case.caught_at_least is not None:
        return tally.share("rolled back", early=True) >= case.caught_at_least
    return True


COLUMNS = (
    "case",
    "rolled back",
    f"of them before {BIG} %",
    "held",
    "promoted",
    "with an unclear step",
    "requests until caught (median)",
    "promise",
    "kept",
    "CPU s",
)


def row(figures: dict) -> str:
    """Return a line of the table."""
    caught = figures["requestsUntilCaught"]
    cells = (
        figures["case"],
        f"{figures['rolledBack']:.2%}",
        f"{figures['rolledBackBefore50']:.2%}",
        f"{figures['held']:.2%}",
        f"{figures['promoted']:.2%}",
        f"{figures['unclear']:.1%}",
        "" if caught is None else f"{caught:,.0f}",
        figures["promise"],
        "yes" if figures["kept"] else "**NO**",
        f"{figures['cpuSeconds']:.0f}",
    )
    return "| " + " | ".join(cells) + " |"


def arguments() -> argparse.Namespace:
    """Return what was asked for."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.canaries",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    names = [case.name for case in CASES]
    parser.add_argument("--case", action="append", choices=names, help="only this one (repeatable)")
    parser.add_argument("--all", action="store_true", help="also the cases at the limits")
    parser.add_argument("--hurried", action="store_true", help="no step outlasts its pause")
    parser.add_argument("--canaries", type=int, default=2000, help="of each case (2000)")
    parser.add_argument("--seed", type=int, default=12, help="of the dice (12)")
    parser.add_argument("-o", "--output", choices=("table", "json"), default="table")
    asked = parser.parse_args()
    if asked.canaries < 1:
        parser.error("--canaries must be at least 1")
    return asked


def main() -> int:
    """Play what was asked for; return the exit status."""
    asked = arguments()
    wanted = [
        case
        for case in CASES
        if (case.name in asked.case if asked.case else asked.all or not case.extra)
    ]
    table = asked.output == "table"
    if table:
        print("| " + " | ".join(COLUMNS) + " |")
        print("|" + "---|" * len(COLUMNS))
    results = []
    for case in wanted:
        show = sys.stderr.isatty()
        results.append(play(case, asked.canaries, asked.seed, hurried=asked.hurried, show=show))
        if table:
            print(row(results[-1]), flush=True)
    if not table:
        print(json.dumps(results, indent=2))
    return 0 if all(each["kept"] for each in results) else 1


if __name__ == "__main__":
    sys.exit(main())
