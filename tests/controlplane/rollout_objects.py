"""ModelDeployments in the middle of a rollout, as an operator leaves them."""

from flambeau_operator.resources.deployment_status import (
    AnalysisStatus,
    Condition,
    LastFailure,
    Measured,
    ModelStatus,
    RolloutStatus,
    Status,
)
from tests.builders import NOON, a_deployment, model_body

HASH = "5f0c5f0c5f0c"
STEPS = [{"weight": 5, "pause": "2m"}, {"weight": 50, "pause": "5m"}, {"weight": 100}]
HOT = {"steps": STEPS, "keepPrevious": "10m"}


def a_condition(kind, reason, message="", status="True"):
    return Condition(
        type=kind, status=status, reason=reason, message=message, last_transition_time=NOON
    )


def a_model(phase="Serving", *, active="1.0", target="1.1", name="classifier", **more):
    rollout = {key: more.pop(key) for key in tuple(more) if key in RolloutStatus.model_fields}
    return ModelStatus(
        name=name,
        active_version=active,
        target_version=target,
        phase=phase,
        rollout=RolloutStatus(**rollout),
        **more,
    )


def rolling(phase="Canary", **more):
    """Return a model whose candidate 1.1 is on its way."""
    return a_model(phase, **{"spec_hash": HASH, "candidate": "1.1", "mode": "SideBySide", **more})


def a_rollout(*models, conditions=(), seen=1, generation=1, hot=HOT, metadata=None, **rollout):
    """Return a ModelDeployment with 3 pods whose spec asks for 1.1 of every model."""
    models = models or (rolling(),)
    status = Status(
        observed_generation=seen,
        conditions=tuple(conditions),
        replicas=3,
        ready_replicas=3,
        models=models,
    )
    wished = [model_body(each.name, each.target_version) for each in models]
    return a_deployment(
        *wished,
        status=status,
        metadata={"generation": generation, **(metadata or {})},
        rollout={"hot": hot, **rollout},
    )


def measured(verdict="Waiting", message="38 of 200 requests"):
    return AnalysisStatus(
        verdict=verdict,
        message=message,
        old=Measured(version="1.0", requests=722, errors=3, p50_ms=12.1, p95_ms=20.3, p99_ms=131),
        new=Measured(version="1.1", requests=38, errors=4, restarts=1, p50_ms=12.0, p95_ms=25.0),
    )


FAILURE = LastFailure(
    reason="AnalysisFailed",
    message="errors 12 % (12 of 100), at most 2 % are allowed",
    log_tail="Traceback\nValueError: no",
    pod="vision-7d9f-x2x4",
    time=NOON,
)
