"""What a command asks of a rollout: which annotation, of which model, or why it cannot be asked.

Pure: a command is judged by the object as it was read. The hash in the annotation keeps it from
being taken for another candidate, should the object have changed meanwhile.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from flambeau_operator import names
from flambeau_operator.cli.rollout_view import candidate, is_rolling
from flambeau_operator.errors import OperatorFault
from flambeau_operator.names import versioned
from flambeau_operator.plan.entries import spec_hash, target_entry
from flambeau_operator.resources.deployment_status import ModelPhase, ModelStatus
from flambeau_operator.resources.model_deployment import ModelDeployment


class NothingToDo(OperatorFault):
    """The command makes no sense as things stand; the message says how they do."""


class Verb(StrEnum):
    """What can be asked of a rollout by annotation."""

    PROMOTE = "promote"
    ABORT = "abort"
    RETRY = "retry"


ANNOTATIONS = {Verb.PROMOTE: names.PROMOTE, Verb.ABORT: names.ABORT, Verb.RETRY: names.RETRY}


@dataclass(frozen=True, slots=True)
class Request:
    """One annotation to set, and whose rollout it is about."""

    verb: Verb
    model: str
    version: str
    value: str
    asks: str  # what it asks, in words

    @property
    def annotations(self) -> dict[str, str]:
        """What to set on the object."""
        return {ANNOTATIONS[self.verb]: self.value}


def promote(deployment: ModelDeployment, model: str | None, *, step: bool) -> Request:
    """Ask for the end of the current step, or of all of them.

    Raises:
        NothingToDo: no candidate is on its way, or there is no step yet to end.
    """
    found = _rolling(deployment, model, Verb.PROMOTE)
    value, name = str(found.rollout.spec_hash), _target(found)
    if not step:
        return Request(Verb.PROMOTE, found.name, str(candidate(found)), value, f"{name} to 100 %")
    at = found.rollout.step
    if at is None:
        raise NothingToDo(
            f"{name} is {found.phase} and has not begun its first step: without --step it would "
            "go to 100 % as soon as every pod has it"
        )
    asks = f"the end of step {at + 1} of {name}"
    return Request(Verb.PROMOTE, found.name, str(candidate(found)), f"{value}/{at}", asks)


def abort(deployment: ModelDeployment, model: str | None) -> Request:
    """Ask for the candidate to be taken back.

    Raises:
        NothingToDo: no candidate is on its way.
    """
    found = _rolling(deployment, model, Verb.ABORT)
    value, asks = str(found.rollout.spec_hash), f"{_target(found)} to be taken back"
    return Request(Verb.ABORT, found.name, str(candidate(found)), value, asks)


def retry(deployment: ModelDeployment, model: str | None) -> Request:
    """Ask for what failed to be tried once more.

    Raises:
        NothingToDo: nothing has failed.
    """
    _check_heard(deployment)
    found = _the_one(deployment, model, _has_failed, "has failed", Verb.RETRY)
    value = found.rollout.failed_hash or _own_hash(deployment, found.name)
    asks = f"{_target(found)} to be tried once more"
    return Request(Verb.RETRY, found.name, str(candidate(found)), value, asks)


def _has_failed(model: ModelStatus) -> bool:
    return bool(model.rollout.failed_hash or model.rollout.failed_others)


def _own_hash(deployment: ModelDeployment, name: str) -> str:
    """Return the hash of the model's own version, which stands for all of it.

    By it the operator forgets what it remembers of the versions of a split or a shadow, too.
    """
    models = deployment.spec.models
    return next((spec_hash(target_entry(each)) for each in models if each.name == name), "")


def is_taken_up(deployment: ModelDeployment, request: Request) -> bool:
    """Tell whether the operator has acted on a request."""
    handled = deployment.status.model(request.model).rollout.handled
    values = {
        Verb.PROMOTE: handled.promote,
        Verb.ABORT: handled.abort,
        Verb.RETRY: handled.retry,
    }
    return values[request.verb] == request.value


def check_pause(deployment: ModelDeployment, *, paused: bool) -> None:
    """Raise NothingToDo if `spec.rollout.paused` is so already."""
    if deployment.spec.rollout.paused == paused:
        state = "paused" if paused else "not paused"
        raise NothingToDo(f"rollouts of {deployment.metadata.name} are {state} already")


def _rolling(deployment: ModelDeployment, model: str | None, verb: Verb) -> ModelStatus:
    _check_heard(deployment)
    return _the_one(
        deployment, model, lambda each: is_rolling(each) or None, "is being rolled out", verb
    )


def _check_heard(deployment: ModelDeployment) -> None:
    """Refuse while the status speaks of an earlier edit, or nobody would act."""
    about, status = deployment.metadata, deployment.status
    if about.annotations.get(names.RECONCILE) == names.DISABLED:
        raise NothingToDo(
            f"the annotation {names.RECONCILE} is {names.DISABLED}: the operator changes nothing"
        )
    if status.observed_generation < about.generation:
        raise NothingToDo(
            f"the operator has not seen the last edit yet (generation {about.generation}, seen: "
            f"{max(status.observed_generation, 0)}): ask again in a moment"
        )


def _the_one(
    deployment: ModelDeployment,
    name: str | None,
    fits: Callable[[ModelStatus], object],
    what: str,
    verb: Verb,
) -> ModelStatus:
    models = deployment.status.models
    if name is not None:
        models = tuple(each for each in models if each.name == name)
        if not models:
            known = ", ".join(each.name for each in deployment.status.models) or "none yet"
            raise NothingToDo(f"there is no model {name!r} in the status: {known}")
    found = [each for each in models if fits(each)]
    if not found:
        stand = "; ".join(_how_it_stands(each, verb) for each in models) or "no model has a status"
        raise NothingToDo(f"nothing to {verb}: {stand}")
    if len(found) > 1:
        names_ = ", ".join(each.name for each in found)
        raise NothingToDo(f"more than one model {what}: add --model, one of {names_}")
    return found[0]


def _how_it_stands(model: ModelStatus, verb: Verb) -> str:
    name, failure = _target(model), model.rollout.last_failure
    if model.phase is ModelPhase.ROLLED_BACK:
        why = f" ({failure.reason})" if failure else ""
        hint = "" if verb is Verb.RETRY else "; `retry` tries it again"
        return f"{name} was rolled back{why}{hint}"
    if model.phase is ModelPhase.ROLLING_BACK:
        return f"{name} is being rolled back"
    if is_rolling(model):
        return f"{name} is on its way ({model.phase})"
    if model.phase in {ModelPhase.SERVING, ModelPhase.DRAINING}:
        back = f"; to go back, set the version to {_kept(model)} again" if _kept(model) else ""
        return f"{name} serves{back if verb is Verb.ABORT else ''}"
    waiting = model.active_version is not None and model.active_version != model.target_version
    return f"{name} has not begun" if waiting else f"{name} is {model.phase}"


def _kept(model: ModelStatus) -> str | None:
    return model.rollout.previous_version


def _target(model: ModelStatus) -> str:
    return versioned(model.name, str(candidate(model)))
