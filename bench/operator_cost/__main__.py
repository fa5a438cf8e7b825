"""Measure what the operator costs, on a cluster built for it: `python -m bench.operator_cost`.

Needs what a cluster of tier 2 needs (e2e/README.md) and the images (`make images`). Nothing else
should run meanwhile.

    python -m bench.operator_cost                          all of it, as in README.md
    python -m bench.operator_cost --changes 10 --rest 20 --count 20
"""

import argparse
import os
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from e2e.cluster import choice
from e2e.cluster.faults import ClusterFault
from e2e.flambeau import SYSTEM, Flambeau, Tenant, archives_of, echo
from e2e.images import build as images, recipes
from e2e.waiting import until
from tests import archives

from bench.operator_cost import crowd, reaction
from bench.operator_cost.api import Api
from bench.operator_cost.crowd import Crowd
from bench.operator_cost.operator_pod import OperatorPod, by_kind, calls, writes

SETTLING_S = 20.0
Row = tuple[str, str, str]
"""What, measured, wanted."""


@dataclass(frozen=True, slots=True)
class Bench:
    """A cluster with the operator on it, and how thorough to be."""

    flambeau: Flambeau
    api: Api
    audit: Path
    rest_s: float

    def operator(self) -> OperatorPod:
        """Return the operator that runs now."""
        return OperatorPod(self.flambeau, self.api)

    def at_rest(self, what: str) -> Iterator[Row]:
        """Watch the operator while nothing happens; yield rows of the table."""
        operator = self.operator()
        time.sleep(SETTLING_S)
        since, before = datetime.now(UTC), operator.usage()
        time.sleep(self.rest_s)
        until, after = datetime.now(UTC), operator.usage()
        percent = 100 * (after.cpu_s - before.cpu_s) / (until - since).total_seconds()
        made = calls(self.audit, since, until)
        where = f"{what} at rest"
        memory = f"{after.rss_mb:.0f} MB, highest {after.peak_mb:.0f} MB"
        yield f"{where}: memory (RSS)", memory, "≤ 130 MB"
        yield f"{where}: CPU, {self.rest_s:.0f} s", f"{percent:.2f} % of a core", "≤ 1 %"
        yield f"{where}: writes to the API server", _told(writes(made)), "the Lease"
        yield f"{where}: reads of the API server", _told(by_kind(made) - writes(made)), ""


def main() -> None:
    """Measure and print."""
    options = _options()
    if os.environ.get(choice.VARIABLE) not in {None, "", "built"}:
        raise SystemExit(f"a cluster that is built here is needed: unset {choice.VARIABLE}")
    os.environ[choice.VARIABLE] = "built"
    try:
        _print(_measured(options))
    except ClusterFault as fault:
        raise SystemExit(f"error: {fault}") from fault


def _measured(options: argparse.Namespace) -> Iterator[Row]:
    with tempfile.TemporaryDirectory(prefix="bench-operator-") as made:
        folder = Path(made)
        with choice.running(2, folder, _say) as cluster:
            for archive in images.built(_say, [recipes.OPERATOR, recipes.RUNTIME]).values():
                cluster.load(archive)
            flambeau = Flambeau(cluster)
            flambeau.install()
            _say(f"load of the machine (1 minute): {os.getloadavg()[0]:.2f}")
            bench = Bench(flambeau, Api(cluster), cluster.place.audit, options.rest)
            yield from _one(bench, options.changes, folder)
            yield from _many(bench, options.count, options.replicas, folder)
            _say(f"load of the machine (1 minute): {os.getloadavg()[0]:.2f}")


def _one(bench: Bench, changes: int, folder: Path) -> Iterator[Row]:
    """Serve one ModelDeployment by real pods: how soon changes arrive, and what rest costs."""
    tenant = Tenant(bench.flambeau, _namespace(bench, "one"))
    archive = archives.write_archive(folder, "1.0", archives.ECHO)
    tenant.apply(archives_of("archives", {archive.name: archive}), echo(workers=1))
    tenant.wait("RolledOut")
    _say("one ModelDeployment is served by two pods")
    yield from bench.at_rest("one")
    before = _inside(bench.operator())
    reactions = reaction.measure(tenant, bench.api, changes, _say)
    took_s, counted = (
        now - then for now, then in zip(_inside(bench.operator()), before, strict=True)
    )
    accepted = _spread([each.accepted_ms for each in reactions])
    yield f"spec changed → a pod has the document, {changes} times", accepted, "p95 ≤ 300 ms"
    yield "of it: the API server's answer", _spread([each.taken_ms for each in reactions]), ""
    inside = f"mean {1000 * took_s / max(counted, 1):.0f} ms"
    yield "of it: in the operator, from the news to the first PUT", inside, ""


def _inside(operator: OperatorPod) -> tuple[float, float]:
    """Return what its own metric says of reactions: how long all of them took, and their number."""
    return (
        operator.metric("flambeau_reaction_seconds_sum"),
        operator.metric("flambeau_reaction_seconds_count"),
    )


def _many(bench: Bench, count: int, replicas: int, folder: Path) -> Iterator[Row]:
    """Serve many by pods that pretend: the same, and how long a look at all of them takes."""
    flambeau = bench.flambeau
    with crowd.pretending(flambeau.cluster, folder):
        many = Crowd(bench.api, _namespace(bench, "many"))
        begin = datetime.now(UTC)
        last = many.create(count, replicas)
        served = many.until_served()
        _say(f"{count} ModelDeployments are served by pods that pretend")
        yield f"{count} made in", _seconds(begin, last), ""
        yield f"{count} are Ready, after the last was made", _seconds(last, served), ""
        yield from bench.at_rest(str(count))
        yield from _all_again(bench, many, count)


def _all_again(bench: Bench, many: Crowd, count: int) -> Iterator[Row]:
    """Have each looked at once: because it was touched, and because a new operator leads."""
    kubectl = bench.flambeau.cluster.run
    since, before = datetime.now(UTC), bench.operator().usage()
    many.touch()
    looked = _looked_at(bench, many, since)
    cpu_s = bench.operator().usage().cpu_s - before.cpu_s
    yield f"each of {count} touched → all looked at", _seconds(since, looked), ""
    yield "CPU for that", f"{cpu_s:.2f} s", ""
    since = datetime.now(UTC)
    kubectl("-n", SYSTEM, "delete", "pod", bench.operator().name)
    kubectl("-n", SYSTEM, "rollout", "status", "deployment/flambeau")
    leading = until("it leads", lambda: bench.operator().logged("leading"))[-1]
    began = datetime.fromisoformat(leading["time"])
    yield "operator deleted → a new one leads", _seconds(since, began), ""
    looked = _looked_at(bench, many, began)
    yield f"it leads → it has looked at all {count}", _seconds(began, looked), ""


def _looked_at(bench: Bench, many: Crowd, since: datetime) -> datetime:
    """Return when a pass had looked at each of them since a moment."""

    def look() -> datetime | None:
        return many.looked_at(calls(bench.audit, since, datetime.now(UTC)))

    return until("the operator has looked at everything", look, within_s=120, every_s=2)


def _namespace(bench: Bench, name: str) -> str:
    bench.flambeau.cluster.run("create", "namespace", name)
    level = "pod-security.kubernetes.io/enforce=restricted"
    bench.flambeau.cluster.run("label", "namespace", name, level)
    return name


def _seconds(begin: datetime, end: datetime) -> str:
    return f"{(end - begin).total_seconds():.1f} s"


def _spread(values: list[float]) -> str:
    cuts = statistics.quantiles(values, n=100, method="inclusive")
    return f"p50 {cuts[49]:.0f}, p95 {cuts[94]:.0f}, max {max(values):.0f} ms"


def _told(counted: Counter[tuple[str, str]]) -> str:
    return ", ".join(f"{n} {verb} {what}" for (verb, what), n in counted.most_common()) or "none"


def _print(rows: Iterator[Row]) -> None:
    """Print them as they come: a fault later on takes nothing away."""
    print("| what | measured | wanted |\n|---|---|---|", flush=True)
    for row in rows:
        print(f"| {' | '.join(row)} |", flush=True)


def _say(text: str) -> None:
    sys.stderr.write(f"{text}\n")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.operator_cost", description=__doc__)
    parser.add_argument("--changes", type=int, default=50, help="of a spec, one after another")
    parser.add_argument("--rest", type=float, default=60.0, help="seconds, where nothing happens")
    parser.add_argument("--count", type=int, default=100, help="ModelDeployments that pretend")
    parser.add_argument("--replicas", type=int, default=2, help="pods of each of those")
    return parser.parse_args()


if __name__ == "__main__":
    main()
