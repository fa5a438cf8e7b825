"""What can be asked of a rollout, and what cannot, and why."""

import pytest

from flambeau_operator.cli import rollout_actions
from flambeau_operator.cli.rollout_actions import NothingToDo, check_pause, is_taken_up
from flambeau_operator.names import ABORT, PROMOTE, RECONCILE, RETRY
from flambeau_operator.plan.entries import spec_hash, target_entry
from flambeau_operator.resources.deployment_status import Handled
from tests.controlplane.rollout_objects import FAILURE, HASH, a_model, a_rollout, rolling


def promote(deployment, model=None, *, step=False):
    return rollout_actions.promote(deployment, model, step=step)


FAILED = a_model("RolledBack", failed_hash="abcd", last_failure=FAILURE)


@pytest.mark.parametrize(
    ("ask", "model", "annotations"),
    [
        pytest.param(promote, rolling(step=1), {PROMOTE: HASH}, id="promote: all the way"),
        pytest.param(promote, rolling("Loading"), {PROMOTE: HASH}, id="promote: before a step"),
        pytest.param(
            lambda it: promote(it, step=True),
            rolling(step=1),
            {PROMOTE: f"{HASH}/1"},
            id="promote --step: the one that is being taken",
        ),
        pytest.param(
            lambda it: rollout_actions.abort(it, None), rolling(), {ABORT: HASH}, id="abort"
        ),
        pytest.param(
            lambda it: rollout_actions.retry(it, None), FAILED, {RETRY: "abcd"}, id="retry"
        ),
        pytest.param(
            lambda it: rollout_actions.retry(it, None),
            a_model(active="1.1", failed_others=("ef01",)),
            {RETRY: spec_hash(target_entry(a_rollout().spec.models[0]))},
            id="retry: a version of a split, by the hash that stands for the model",
        ),
    ],
)
def test_the_annotation_names_the_candidate(ask, model, annotations):
    assert ask(a_rollout(model)).annotations == annotations


@pytest.mark.parametrize(
    ("ask", "deployment", "words"),
    [
        pytest.param(
            promote,
            a_rollout(a_model(active="1.1")),
            "nothing to promote: classifier@1.1 serves$",
            id="nothing is on its way",
        ),
        pytest.param(
            promote,
            a_rollout(FAILED),
            r"classifier@1.1 was rolled back \(AnalysisFailed\); `retry` tries it again",
            id="it was rolled back",
        ),
        pytest.param(
            promote, a_rollout(rolling("RollingBack")), "is being rolled back", id="going back"
        ),
        pytest.param(
            promote, a_rollout(a_model("Pending")), "has not begun", id="it waits for another model"
        ),
        pytest.param(
            lambda it: promote(it, step=True),
            a_rollout(rolling("Loading")),
            "has not begun its first step: without --step it would go to 100 %",
            id="no step to end",
        ),
        pytest.param(
            promote,
            a_rollout(generation=2),
            "has not seen the last edit yet .generation 2, seen: 1.: ask again",
            id="an edit that was not seen",
        ),
        pytest.param(
            promote,
            a_rollout(metadata={"annotations": {RECONCILE: "disabled"}}),
            "reconcile is disabled: the operator changes nothing",
            id="an operator that only observes",
        ),
        pytest.param(
            lambda it: promote(it, "detector"),
            a_rollout(),
            "there is no model 'detector' in the status: classifier",
            id="a model that is not there",
        ),
        pytest.param(
            lambda it: promote(it, "detector"),
            a_rollout(rolling(), a_model(name="detector", active="1.1")),
            "nothing to promote: detector@1.1 serves",
            id="another model rolls",
        ),
        pytest.param(
            lambda it: rollout_actions.abort(it, None),
            a_rollout(a_model(active="1.1", previous_version="1.0")),
            "classifier@1.1 serves; to go back, set the version to 1.0 again",
            id="too late to abort",
        ),
        pytest.param(
            lambda it: rollout_actions.retry(it, None),
            a_rollout(),
            "nothing to retry: classifier@1.1 is on its way",
            id="nothing has failed",
        ),
        pytest.param(
            lambda it: rollout_actions.retry(it, None),
            a_rollout(FAILED, a_model("RolledBack", name="detector", failed_hash="01")),
            "more than one model has failed: add --model, one of classifier, detector",
            id="which of them",
        ),
    ],
)
def test_what_makes_no_sense_is_refused_with_how_things_stand(ask, deployment, words):
    with pytest.raises(NothingToDo, match=words):
        ask(deployment)


def test_a_request_is_taken_up_once_the_operator_says_its_very_value():
    asked = promote(a_rollout(rolling(step=0)), step=True)
    before = a_rollout(rolling(step=0, handled=Handled(promote="older/0", abort=asked.value)))
    after = a_rollout(rolling(step=1, handled=Handled(promote=asked.value)))
    assert not is_taken_up(before, asked)
    assert is_taken_up(after, asked)


def test_a_pause_that_is_one_already_is_refused():
    with pytest.raises(NothingToDo, match="rollouts of vision are paused already"):
        check_pause(a_rollout(paused=True), paused=True)
    with pytest.raises(NothingToDo, match="rollouts of vision are not paused already"):
        check_pause(a_rollout(), paused=False)
    check_pause(a_rollout(), paused=True)
