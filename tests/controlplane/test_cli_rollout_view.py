"""What people and programs are told of a rollout."""

import json

import pytest

from flambeau_operator.cli.rollout_json import history_to_json, view_to_json
from flambeau_operator.cli.rollout_lines import history_lines, plain, status_lines
from flambeau_operator.cli.rollout_view import Outcome, StepState, view
from flambeau_operator.resources.deployment_status import Past
from tests.builders import NOON, at
from tests.controlplane.rollout_objects import (
    FAILURE,
    HASH,
    a_condition,
    a_model,
    a_rollout,
    measured,
    rolling,
)

STALLED = a_condition("Stalled", "RolledBack", "1.1 was taken back")
GOING = a_condition("Reconciling", "RolloutInProgress", "step 1 of 3")
DONE = a_condition("RolledOut", "RolledOut", "every pod has what the spec asks for")


def seen(*models, now=NOON, **rest):
    return view(a_rollout(*models, **rest), "context dev", now)


@pytest.mark.parametrize(
    ("deployment", "outcome", "code"),
    [
        pytest.param({"conditions": [DONE]}, "RolledOut", 0, id="rolled out"),
        pytest.param({"conditions": [STALLED]}, "Stalled", 1, id="rolled back"),
        pytest.param({"conditions": [GOING]}, "Progressing", 3, id="still going"),
        pytest.param({"conditions": [GOING], "paused": True}, "Paused", 3, id="paused"),
        pytest.param(
            {"conditions": [DONE], "generation": 2}, "Progressing", 3, id="an edit not seen yet"
        ),
        pytest.param(
            {"conditions": [STALLED], "generation": 2}, "Progressing", 3, id="a retry not seen yet"
        ),
        pytest.param({}, "Progressing", 3, id="nothing is said yet"),
        pytest.param(
            {"conditions": [a_condition("Suspended", "Suspended")]}, "Suspended", 0, id="suspended"
        ),
    ],
)
def test_a_script_is_told_how_it_ended_or_that_it_goes_on(deployment, outcome, code):
    found = seen(**deployment).outcome
    assert (found, found.exit_code) == (outcome, code)


def test_a_candidate_that_waits_for_a_person_is_paused_not_progressing():
    assert seen(rolling(held="no clear result"), conditions=[GOING]).outcome is Outcome.PAUSED


def test_a_pause_without_a_candidate_stops_nothing():
    found = seen(a_model(active="1.1"), conditions=[GOING], paused=True)
    assert found.outcome is Outcome.PROGRESSING


@pytest.mark.parametrize(
    ("model", "rest", "words"),
    [
        pytest.param(rolling("Loading"), {}, "the first pod to have 1.1 ready", id="first pod"),
        pytest.param(
            rolling("Loading", ready_pods=1), {}, "all pods to have 1.1 ready: 1 of 3", id="others"
        ),
        pytest.param(
            rolling(step=0), {}, "every pod to have the step's weight", id="a step that begins"
        ),
        pytest.param(
            rolling(step=0, step_started_at=NOON), {}, "the step's pause to end", id="its pause"
        ),
        pytest.param(
            rolling(step=0, step_started_at=at(-300), analysis=measured()),
            {},
            "the analysis",
            id="more requests",
        ),
        pytest.param(
            rolling(step=0, step_started_at=at(-300), analysis=measured("Passed")),
            {},
            "the operator to take the next step",
            id="nothing but a pass",
        ),
        pytest.param(
            rolling(step=3),
            {},
            "every pod to have 1.1, to be promoted then",
            id="past the last step",
        ),
        pytest.param(rolling(held="no clear result"), {}, "no clear result", id="a person"),
        pytest.param(
            rolling(step=0),
            {"paused": True},
            "spec.rollout.paused to be false: it holds where it is",
            id="its resumption",
        ),
        pytest.param(
            a_model("Pending"), {}, "its turn: one model rolls at a time", id="another model"
        ),
        pytest.param(
            rolling("RollingBack"), {}, "the pods to drop 1.1", id="pods that drop it again"
        ),
        pytest.param(a_model(active="1.1"), {}, "", id="nothing"),
    ],
)
def test_it_is_said_what_is_waited_for(model, rest, words):
    (found,) = seen(model, **rest).models
    assert found.waits_for == words


@pytest.mark.parametrize(
    ("model", "states"),
    [
        pytest.param(rolling("Loading"), ["next", "next", "next"], id="before the first"),
        pytest.param(rolling(step=1), ["done", "current", "next"], id="in the middle"),
        pytest.param(rolling(step=2), ["done", "done", "current"], id="the last"),
        pytest.param(rolling("Promoting", step=2), ["done", "done", "done"], id="promoting"),
        pytest.param(rolling(step=3), ["done", "done", "done"], id="past the last"),
        pytest.param(a_model(active="1.1"), [], id="nothing rolls"),
        pytest.param(rolling(candidate="0.9"), [], id="a version of a split takes none"),
    ],
)
def test_every_step_is_done_current_or_to_come(model, states):
    (found,) = seen(model).models
    assert [each.state for each in found.steps] == [StepState(each) for each in states]


def test_the_pause_of_a_step_runs_down_from_when_every_pod_had_it():
    model = rolling(step=0, step_started_at=NOON)
    left = [seen(model, now=at(seconds)).models[0].pause_left_s for seconds in (0, 50, 500)]
    assert left == [120, 70, 0]
    assert seen(rolling(step=0)).models[0].pause_left_s is None


def test_the_old_version_is_kept_for_a_while_after_the_promotion():
    model = a_model(active="1.1", previous_version="1.0", promoted_at=NOON)
    (found,) = seen(model, now=at(60)).models
    assert (found.kept, found.kept_for_s) == ("1.0", 540)
    (later,) = seen(model, now=at(601)).models
    assert later.kept is None


PICTURE = f"""\
vision  default, context dev
Progressing  (Ready True, 3/3 pods)

classifier  1.0 → 1.1  Canary, 5 % of the requests  {HASH}
  steps      ● 5 % for 2m, 1m30s left   ○ 50 % for 5m   ○ 100 %
  mode       SideBySide: 900 MiB are free
  pods       3 of 3 have it ready
  measured   VERSION  REQUESTS      ERRORS  RESTARTS      P50      P95     P99
                 1.0       722   3 (0.4 %)         0  12.1 ms  20.3 ms  131 ms
                 1.1        38  4 (10.5 %)         1  12.0 ms  25.0 ms       -
  verdict    Waiting: 38 of 200 requests
  waits for  the step's pause to end
"""


def test_a_canary_is_drawn_with_its_steps_numbers_and_verdict():
    model = rolling(
        step=0,
        step_started_at=NOON,
        weight=5,
        ready_pods=3,
        mode_reason="900 MiB are free",
        analysis=measured(),
    )
    ready = a_condition("Ready", "AllModelsServing")
    found = seen(model, conditions=[ready, GOING], now=at(30))
    assert plain(status_lines(found)) == PICTURE


def test_a_rollback_is_drawn_with_its_reason_the_pods_last_words_and_the_way_on():
    model = a_model("RolledBack", failed_hash="abcd", last_failure=FAILURE)
    drawn = plain(status_lines(seen(model, conditions=[STALLED])))
    assert "Stalled: RolledBack: 1.1 was taken back" in drawn
    assert "in vision-7d9f-x2x4: AnalysisFailed: errors 12 % (12 of 100)" in drawn
    assert "             ValueError: no\n" in drawn
    assert "next       flambeau rollout retry vision" in drawn


@pytest.mark.parametrize(
    ("deployment", "command"),
    [
        ({"paused": True}, "flambeau rollout resume vision"),
        ({}, "flambeau rollout promote | abort vision"),
    ],
)
def test_where_a_person_is_needed_the_command_is_named(deployment, command):
    model = rolling(step=0, held="" if deployment else "no clear result")
    assert command in plain(status_lines(seen(model, **deployment)))


def test_programs_get_every_name_whatever_is_known():
    going = view_to_json(seen(rolling(step=0, step_started_at=NOON, analysis=measured())))
    ended = view_to_json(seen(a_model(active="1.1"), conditions=[DONE]))
    assert going.keys() == ended.keys()
    assert going["models"][0].keys() == ended["models"][0].keys()
    assert json.loads(json.dumps(going)) == going
    assert (going["models"][0]["candidateHash"], going["exitCode"]) == (HASH, 3)
    assert going["models"][0]["analysis"]["new"]["p95Ms"] == 25.0


PAST = Past(
    version="1.0",
    from_version="0.9",
    spec_hash="00",
    outcome="RolledBack",
    mode="SideBySide",
    started_at=NOON,
    ended_at=at(90),
    message="errors 12 %",
)


def test_the_history_begins_with_what_runs_now():
    found = seen(rolling(history=(PAST,)))
    head, running, past = plain(history_lines(found)).splitlines()
    assert head.split() == ["MODEL", "VERSION", "OUTCOME", "MODE", "ENDED", "TOOK", "WHY"]
    assert running.split()[:5] == ["classifier", "1.0", "→", "1.1", "Running"]
    assert "0.9 → 1.0  RolledBack  SideBySide" in past
    assert past.endswith("1m30s  errors 12 %")
    (model,) = history_to_json(found)["models"]
    assert model["running"]["specHash"] == HASH
    assert model["history"][0]["outcome"] == "RolledBack"


def test_a_history_without_anything_says_so():
    assert plain(history_lines(seen(a_model(active="1.1")))) == "no rollout is remembered\n"
