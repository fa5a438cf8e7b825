"""The conditions about what stands around the pods: objects, autoscaler, places to run."""

from __future__ import annotations

from typing import Final

from flambeau_operator.names import ADOPT, DISABLED, RECONCILE
from flambeau_operator.plan.finding import LONGEST_MESSAGE, Finding
from flambeau_operator.plan.findings import Findings
from flambeau_operator.resources.conditions import ConditionType, Reason
from flambeau_operator.resources.model_deployment import Model

UNSCHEDULABLE: Final = "Unschedulable"
CREDENTIALS_MISSING: Final = "CredentialsMissing"
"""The runtime's word for a Secret that is not there, or makes no sense."""
NOTHING_IS_CHANGED: Final = f"nothing is changed while the annotation {RECONCILE} is {DISABLED}"


def stuck(findings: Findings) -> Finding | None:
    """Return what keeps the objects from being as they should be; the order is the policy."""
    kind, refusals = ConditionType.STALLED, findings.children.refusals
    if findings.violation:
        said = findings.violation.message[:LONGEST_MESSAGE]
        return Finding(kind, "True", findings.violation.reason, said)
    if findings.children.conflicts:
        return Finding(kind, "True", Reason.NAME_CONFLICT, conflicts(findings))
    if refusals:
        said = "; ".join(each.message for each in refusals)[:LONGEST_MESSAGE]
        return Finding(kind, "True", refusals[0].reason, said)
    return None


def autoscaling_active(findings: Findings) -> Finding | None:
    """Repeat what the autoscaler says of itself, where one is wished for."""
    autoscaling = findings.deployment.spec.autoscaling
    if autoscaling is None or autoscaling.hpa is None:
        return None
    kind, said = ConditionType.AUTOSCALING_ACTIVE, findings.children.autoscaler
    if said is None:
        return Finding(kind, "Unknown", Reason.AUTOSCALER_SILENT, "it has said nothing yet")
    return Finding(kind, "True" if said.active else "False", said.reason, said.message)


def without_effect(findings: Findings) -> Finding | None:
    """Name the fields that do nothing in this environment, so that none is silently ignored."""
    if not findings.children.unsupported:
        return None
    message = "; ".join(findings.children.unsupported)[:LONGEST_MESSAGE]
    return Finding(ConditionType.UNSUPPORTED, "True", Reason.NO_EFFECT, message)


def reconcile_disabled(findings: Findings) -> Finding | None:
    """Say so while the user keeps us from changing anything."""
    if not findings.observe_only:
        return None
    kind = ConditionType.RECONCILE_DISABLED
    return Finding(kind, "True", Reason.RECONCILE_DISABLED, NOTHING_IS_CHANGED)


def conflicts(findings: Findings) -> str:
    """Name the objects that are in the way, and the ways out."""
    names = ", ".join(findings.children.conflicts)
    return (
        f"{names}: there already, and not made by this ModelDeployment, so it is left alone; give "
        f"one of them another name, or, if it was left behind, annotate with {ADOPT}=true"
    )


def with_secret(reason: str, message: str, model: Model, findings: Findings) -> str:
    """Return what a pod says of a failure, and which Secret it misses: a pod does not know that."""
    if reason != CREDENTIALS_MISSING:
        return message
    secrets = {each.name: each.secret_ref.name for each in findings.deployment.spec.credentials}
    secret = secrets.get(model.source.credentials or "", "?")
    return f"Secret {secret} is missing or has not what opens the source: {message}"


def trouble_reason(findings: Findings) -> str | None:
    """Return why pods do not run; that there is no place for one goes before all else."""
    reasons = [pod.trouble.reason for pod in findings.troubled if pod.trouble]
    return UNSCHEDULABLE if UNSCHEDULABLE in reasons else next(iter(reasons), None)


def with_troubles(words: str, findings: Findings) -> str:
    """Add why pods do not run, the same cause once."""
    causes: dict[str, list[str]] = {}
    for pod in findings.troubled:
        if pod.trouble:
            said = f"{pod.trouble.reason}: {pod.trouble.message}"
            causes.setdefault(said, []).append(pod.name)
    told = [f"pod {', '.join(pods)}: {said}" for said, pods in causes.items()]
    return "; ".join([words, *told])[:LONGEST_MESSAGE]
