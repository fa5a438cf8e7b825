"""The report: conditions, phases and counts, computed anew from facts at each pass."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from flambeau_operator.errors import FieldProblem
from flambeau_operator.names import versioned
from flambeau_operator.plan.conditions import carry_over, judge
from flambeau_operator.plan.finding import LONGEST_MESSAGE, Finding
from flambeau_operator.plan.findings import Findings
from flambeau_operator.plan.fleet import Reporter
from flambeau_operator.plan.model_status import model_status
from flambeau_operator.resources.conditions import ConditionType, Reason
from flambeau_operator.resources.deployment_status import ModelStatus, PodIssue, Status
from flambeau_operator.resources.pod_state import VersionPhase

MOST_ISSUES = 10


def summarise(findings: Findings, sequence: int) -> Status:
    """Return the whole status of one pass."""
    before, generation = findings.deployment.status, findings.deployment.metadata.generation
    models = tuple(model_status(each, findings) for each in findings.standings)
    workers = sum(each.ready_workers for each in models)
    needed = sum(each.model.workers.min for each in findings.standings) * findings.pods_wanted
    return Status(
        observed_generation=generation,
        sequence=sequence,
        conditions=carry_over(judge(findings, models), before, generation, findings.now),
        url=None if findings.service_is_foreign else findings.children.url or before.url,
        runtime_image=findings.children.runtime_image,
        selector=findings.children.selector,
        replicas=len(findings.fleet.present),
        ready_replicas=findings.ready_pods,
        summary=", ".join(_in_short(each) for each in models),
        workers=f"{workers}/{needed}",
        models=(*models, *_still_committed(findings)),
        pod_issues=_pod_issues(findings),
    )


def _still_committed(findings: Findings) -> tuple[ModelStatus, ...]:
    """Return what is known of models that left the spec while nothing could be written.

    They are in the committed set until then, and whether they ever served must not be forgotten.
    """
    named = {each.name for each in findings.standings}
    committed = {each.name for each in findings.committed}
    before = findings.deployment.status.models
    kept = committed | ({each.name for each in before} if findings.hands_off else set())
    return tuple(each for each in before if each.name in kept - named)


def refused_status(
    previous: Status, generation: int, problems: Sequence[FieldProblem], now: datetime
) -> Status:
    """Return the status of an object that cannot be parsed: Stalled, and the rest as it was."""
    message = "; ".join(str(problem) for problem in problems)[:LONGEST_MESSAGE]
    replaced = {ConditionType.RECONCILING, ConditionType.STALLED, ConditionType.ROLLED_OUT}
    kept = tuple(each for each in previous.conditions if each.type not in replaced)
    found = (
        Finding(ConditionType.ROLLED_OUT, "False", Reason.INVALID_SPEC, message),
        Finding(ConditionType.STALLED, "True", Reason.INVALID_SPEC, message),
    )
    now = now.replace(microsecond=0)
    conditions = (*kept, *carry_over(found, previous, generation, now))
    return previous.model_copy(update={"observed_generation": generation, "conditions": conditions})


def _in_short(model: ModelStatus) -> str:
    active, target = model.active_version, model.target_version
    if active is None or active == target or target is None:
        return versioned(model.name, target or "")
    share = f" ({model.weight}%)" if model.weight else ""
    return f"{versioned(model.name, active)}→{target}{share}"


def _pod_issues(findings: Findings) -> tuple[PodIssue, ...]:
    """Name the pods that are not as they should be, the same ones in the same order each time."""
    found = [
        (pod.name, str(Reason.POD_SILENT), "its management API does not answer")
        for pod in findings.fleet.gone_silent
    ]
    found += [
        (pod.name, pod.trouble.reason, pod.trouble.message[:LONGEST_MESSAGE])
        for pod in findings.troubled
        if pod.trouble
    ]
    found += [
        (pod.name, str(Reason.POD_RESTARTING), f"it does not run, after {pod.restarts} restarts")
        for pod in findings.fleet.pods
        if pod.restarts and not pod.running and not pod.terminating and not pod.trouble
    ]
    for pod in findings.fleet.reporters:
        found.extend(_failures_in(pod))
    known = {(each.pod, each.reason): each.since for each in findings.deployment.status.pod_issues}
    return tuple(
        PodIssue(
            pod=pod, reason=reason, message=message, since=known.get((pod, reason), findings.now)
        )
        for pod, reason, message in found[:MOST_ISSUES]
    )


def _failures_in(pod: Reporter) -> list[tuple[str, str, str]]:
    return [
        (
            pod.name,
            version.failure.reason,
            f"{versioned(model.name, version.version)}: {version.failure.message}",
        )
        for model in pod.state.models
        for version in model.versions
        if version.phase is VersionPhase.FAILED and version.failure
    ]
