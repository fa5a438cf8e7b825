"""`flambeau plan FILE --load`: what a candidate is like, found out in a runtime of its own.

The old version goes in first, then the candidate beside it with no weight, as in a rollout; then
both are asked the same. Nothing of a deployment that serves is touched, and nothing stays.
"""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from flambeau_operator.cli.golden import (
    Answered,
    Golden,
    Question,
    ask_all,
    quantile_ms,
    unexpected,
    warmup_requests,
)
from flambeau_operator.cli.manifests import local_uri
from flambeau_operator.cli.trial_report import Trialled, Tried
from flambeau_operator.errors import DoorFault, Refused
from flambeau_operator.local.trial import Tools, Trial
from flambeau_operator.local.wards import Guard
from flambeau_operator.plan.differences import difference
from flambeau_operator.plan.entries import other_entries, pod_uri, target_entry
from flambeau_operator.plan.foresight import Foresight
from flambeau_operator.plan.standing import Kind
from flambeau_operator.resources.comparison import Comparison
from flambeau_operator.resources.model_deployment import Model, ModelDeployment
from flambeau_operator.resources.pod_state import (
    Document,
    Failure,
    ModelEntry,
    PodState,
    VersionEntry,
    VersionPhase,
    VersionState,
)
from flambeau_operator.resources.rollout import Rollout
from flambeau_operator.runtime_client import HttpRuntimeClient, Signer

AT_LEAST_ASKED: Final = 50
"""How often a version is asked at least, in rounds over the golden requests: for its quantiles."""
MEASURED_WITHIN_S: Final = 6.0
ENDED: Final = frozenset({VersionPhase.READY, VersionPhase.FAILED})


@dataclass(frozen=True, slots=True)
class Candidate:
    """One version to try, and the one it is held against."""

    model: Model
    entry: VersionEntry
    old: VersionEntry | None
    rules: Comparison | None = None  # when two answers count as the same


def candidates_of(
    foresight: Foresight, wish: ModelDeployment, committed: Document | None
) -> tuple[Candidate, ...]:
    """Return what would be loaded that is not there now.

    Args:
        foresight: what would follow.
        wish: the object as it would be on this machine.
        committed: what a starting pod boots from now, if that is known.
    """
    wanted = {
        (each.name, each.target)
        for each in foresight.models
        if each.kind not in {Kind.SETTLED, Kind.REUSED}
    }
    return tuple(
        Candidate(
            model,
            _alone(entry),
            _active(model.name, committed, entry.version),
            _rules(model, wish.spec.rollout),
        )
        for model in wish.spec.models
        for entry in (target_entry(model), *other_entries(model))
        if (model.name, entry.version) in wanted
    )


def _rules(model: Model, rollout: Rollout) -> Comparison | None:
    """Return the rules that the analysis of a rollout would go by, or those of a shadow."""
    analysis = rollout.in_pods.analysis
    if analysis and analysis.fail_on.answers:
        return analysis.fail_on.answers
    return model.shadow.compare if model.shadow else None


def _active(model: str, committed: Document | None, other_than: str) -> VersionEntry | None:
    known = committed.model(model) if committed else None
    entry = known.version(known.default) if known else None
    return _alone(entry) if entry and entry.version != other_than else None


def _alone(entry: VersionEntry) -> VersionEntry:
    """Return an entry for a trial: one worker, and opened by what this machine's user has."""
    source = replace(entry.source, credentials=None)
    return replace(entry, source=source, workers=1, max_workers=None, weight=0)


@dataclass(slots=True)
class _Asked:
    """What one version has answered."""

    first: dict[str, Answered] = field(default_factory=dict)  # by where its request stands
    seconds: list[float] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    unexpected: list[str] = field(default_factory=list)
    unlike_itself: int = 0


def found_here(committed: Document, live: ModelDeployment, folder: Path) -> Document:
    """Return what a cluster has committed, with the sources that this machine has otherwise.

    What pods have mounted is looked for beside the file, by the address in the live spec.
    """
    uris = {(each.name, each.version): each.source.uri for each in live.spec.models}

    def moved(model: str, entry: VersionEntry) -> VersionEntry:
        uri = uris.get((model, entry.version))
        if uri is None or pod_uri(uri) != entry.source.uri:
            return entry
        return replace(entry, source=replace(entry.source, uri=local_uri(uri, folder)))

    models = (
        replace(model, versions=tuple(moved(model.name, each) for each in model.versions))
        for model in committed.models
    )
    return replace(committed, models=tuple(models))


async def load(
    candidates: Sequence[Candidate], golden: Sequence[Golden], within_s: float
) -> tuple[Trialled, ...]:
    """Try the candidates and report on each.

    Args:
        candidates: in the order in which they are loaded.
        golden: what both versions are asked; empty takes each model's warm-up requests.
        within_s: how long one version may take to be fetched, loaded and warmed.

    Raises:
        Unavailable: the runtime does not start, or died.
    """
    async with _runtime() as trial:
        return tuple([await _try(trial, candidate, golden, within_s) for candidate in candidates])


@contextlib.asynccontextmanager
async def _runtime() -> AsyncIterator[Trial]:
    """Start a runtime in a temporary folder; both are gone in the end, however it ends."""
    with tempfile.TemporaryDirectory(prefix="flambeau-", ignore_cleanup_errors=True) as folder:
        signer = Signer(Ed25519PrivateKey.generate(), _now)
        async with (
            Guard(remove=[Path(folder)]) as guard,
            HttpRuntimeClient(signer) as runtimes,
            Trial(Path(folder), Tools(runtimes, signer.public_key, guard, _now)) as trial,
        ):
            yield trial


async def _try(
    trial: Trial, candidate: Candidate, golden: Sequence[Golden], within_s: float
) -> Trialled:
    old = None
    if candidate.old is not None:
        old = await _bring_in(trial, candidate, [candidate.old], within_s)
    kept = [candidate.old] if candidate.old and old and old.ready else []
    new = await _bring_in(trial, candidate, [*kept, candidate.entry], within_s)
    asked = await _ask(trial, candidate, golden, [each for each in (old, new) if each])
    state = await _measured(trial, candidate, [each.version for each in (old, new) if each])
    await trial.want([])
    return _report(candidate, state, asked, old, new)


async def _bring_in(
    trial: Trial, candidate: Candidate, entries: Sequence[VersionEntry], within_s: float
) -> Tried:
    """Load the last of these versions beside the others, and say how that went."""
    model, entry = candidate.model.name, entries[-1]
    default = entries[0].version if len(entries) > 1 else entry.version
    began = time.monotonic()
    tried = Tried(entry.version)
    try:
        await trial.want([ModelEntry(model, default, tuple(entries), required=False)])
        async with asyncio.timeout(within_s):
            state = await trial.until(_has_ended(model, entry.version))
    except Refused as error:
        return replace(tried, failure=Failure("Refused", str(error)))
    except TimeoutError:
        seen = f"not ready within {within_s:g} s"
        return replace(tried, failure=Failure("NotInTime", seen))
    seconds = time.monotonic() - began
    found = state.version(model, entry.version) or VersionState(entry.version)
    if found.phase is VersionPhase.READY:
        return replace(tried, ready=True, load_s=round(seconds, 3), bytes=found.bytes)
    return replace(tried, failure=found.failure or Failure("ModelFailed", "no reason is given"))


def _has_ended(model: str, version: str) -> Callable[[PodState], bool]:
    def is_so(state: PodState) -> bool:
        seen = state.version(model, version)
        return seen is not None and seen.phase in ENDED

    return is_so


async def _ask(
    trial: Trial, candidate: Candidate, golden: Sequence[Golden], tried: Iterable[Tried]
) -> Mapping[str, _Asked]:
    """Ask every version that is ready the same, in turns, often enough for quantiles."""
    model = candidate.model
    mine = [each for each in golden if each.model in {None, model.name}]
    mine = mine or list(warmup_requests(model))
    versions = [each.version for each in tried if each.ready]
    asked: dict[str, _Asked] = defaultdict(_Asked)
    if not mine or not versions:
        return asked
    rounds = -(-AT_LEAST_ASKED // len(mine))
    questions = [
        Question(each, model.name, version)
        for _ in range(rounds)
        for each in mine
        for version in versions
    ]
    timeout_s = model.timeouts.response_s + 10.0
    url = trial.inference_url
    answers = await asyncio.to_thread(lambda: list(ask_all(url, questions, timeout_s)))
    for question, answer in answers:
        _note(asked[question.version], question, answer, candidate.rules)
    return asked


def _note(asked: _Asked, question: Question, answer: Answered, rules: Comparison | None) -> None:
    where = question.golden.where
    first = asked.first.setdefault(where, answer)
    asked.seconds.append(answer.seconds)
    if not answer.is_good:
        asked.errors.append(f"{where}: {answer}")
        return
    if first is not answer and first.is_good:
        asked.unlike_itself += difference(first.body, answer.body, rules) is not None
    elif wrong := unexpected(question.golden, answer, rules):
        asked.unexpected.append(f"{where}: {wrong}")


async def _measured(trial: Trial, candidate: Candidate, versions: Sequence[str]) -> PodState | None:
    """Return the state once it tells what the versions' workers hold; None if it never does."""
    name = candidate.model.name

    def is_measured(state: PodState) -> bool:
        seen = [state.version(name, version) for version in versions]
        ready = [each for each in seen if each and each.phase is VersionPhase.READY]
        return all(each.memory.worker_bytes for each in ready)

    try:
        async with asyncio.timeout(MEASURED_WITHIN_S):
            return await trial.until(is_measured)
    except (TimeoutError, DoorFault):
        return None


def _report(
    candidate: Candidate,
    state: PodState | None,
    asked: Mapping[str, _Asked],
    old: Tried | None,
    new: Tried,
) -> Trialled:
    name = candidate.model.name

    def complete(tried: Tried) -> Tried:
        seen = state.version(name, tried.version) if state else None
        told = asked.get(tried.version, _Asked())
        return replace(
            tried,
            worker_bytes=(seen.memory.worker_bytes or None) if seen else None,
            device_bytes=(seen.memory.device_bytes or None) if seen else None,
            requests=len(told.seconds),
            errors=tuple(told.errors),
            unexpected=tuple(told.unexpected),
            unlike_itself=told.unlike_itself,
            p50_ms=quantile_ms(told.seconds, 0.5),
            p95_ms=quantile_ms(told.seconds, 0.95),
        )

    compared, differences = 0, []
    if old and old.ready and new.ready:
        before, now = asked.get(old.version, _Asked()), asked.get(new.version, _Asked())
        for where, answer in before.first.items():
            other = now.first.get(where)
            if other is None or not (answer.is_good and other.is_good):
                continue
            compared += 1
            if found := difference(answer.body, other.body, candidate.rules):
                differences.append(f"{where}: {found}")
    return Trialled(
        model=name,
        old=complete(old) if old else None,
        new=complete(new),
        compared=compared,
        differences=tuple(differences),
    )


def _now() -> datetime:
    return datetime.now(UTC)
