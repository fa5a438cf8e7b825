"""What `flambeau rollout … -o json` writes; docs/releases.md promises these names to programs."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from flambeau_operator.cli.rollout_view import ModelView, View
from flambeau_operator.resources.deployment_status import Past


def view_to_json(view: View) -> dict[str, Any]:
    """Write how a ModelDeployment stands; what is not known is null, never absent."""
    return {
        "namespace": view.namespace,
        "name": view.name,
        "where": view.where,
        "generation": view.generation,
        "observedGeneration": view.observed_generation,
        "outcome": str(view.outcome),
        "exitCode": view.outcome.exit_code,
        "reason": view.reason,
        "message": view.message,
        "ready": view.ready,
        "paused": view.paused,
        "replicas": view.replicas,
        "readyReplicas": view.ready_replicas,
        "models": [_model(each) for each in view.models],
    }


def _model(model: ModelView) -> dict[str, Any]:
    failure, beside, analysis = model.last_failure, model.beside_failure, model.analysis
    return {
        "name": model.name,
        "activeVersion": model.active,
        "targetVersion": model.target,
        "phase": str(model.phase),
        "weight": model.weight,
        "readyPods": model.ready_pods,
        "readyWorkers": model.ready_workers,
        "rolling": model.rolling,
        "candidate": model.candidate,
        "candidateHash": model.hash,
        "failedHash": model.failed,
        "mode": model.mode,
        "modeReason": model.mode_reason,
        "steps": [
            {
                "weight": each.weight,
                "shadow": each.shadow,
                "pauseSeconds": each.pause_s,
                "state": str(each.state),
            }
            for each in model.steps
        ],
        "step": model.step,
        "stepStartedAt": _time(model.step_started_at),
        "pauseLeftSeconds": model.pause_left_s,
        "previousVersion": model.kept,
        "previousKeptForSeconds": model.kept_for_s,
        "held": model.held,
        "waitsFor": model.waits_for,
        "analysis": analysis.model_dump(mode="json", by_alias=True) if analysis else None,
        "lastFailure": failure.model_dump(mode="json", by_alias=True) if failure else None,
        "besideFailure": beside.model_dump(mode="json", by_alias=True) if beside else None,
    }


def history_to_json(view: View) -> dict[str, Any]:
    """Write the rollouts of every model, the running one apart."""
    return {
        "namespace": view.namespace,
        "name": view.name,
        "where": view.where,
        "models": [
            {
                "name": each.name,
                "running": _running(each) if each.rolling else None,
                "history": [_past(past) for past in each.history],
            }
            for each in view.models
        ],
    }


def _running(model: ModelView) -> dict[str, Any]:
    return {
        "version": model.candidate,
        "fromVersion": model.active,
        "specHash": model.hash,
        "mode": model.mode,
        "startedAt": _time(model.started_at),
        "weight": model.weight,
    }


def _past(past: Past) -> dict[str, Any]:
    return past.model_dump(mode="json", by_alias=True)


def _time(at: datetime | None) -> str | None:
    return at.isoformat() if at else None
