"""Other programs take an object for what it is, in every phase; the same over a real API server
is e2e/test_health.py."""

from __future__ import annotations

import pytest

from flambeau_operator.resources.deployment_status import ModelPhase
from tests.argo import health
from tests.builders import deployment_body
from tests.controlplane.recordings import FOLDER, RECORDINGS, Health

each_recording = pytest.mark.parametrize("recording", RECORDINGS, ids=lambda each: each.name)


@each_recording
def test_what_is_recorded_is_what_the_operator_leaves_today(recording):
    assert recording.read() == recording.play(), "python -m tests.controlplane.recordings"


def test_no_file_is_of_nobody():
    assert {file.stem for file in FOLDER.iterdir()} == {each.name for each in RECORDINGS}


def test_every_phase_is_recorded():
    models = (
        model for each in RECORDINGS for model in each.read().get("status", {}).get("models", [])
    )
    assert {model["phase"] for model in models} == {str(phase) for phase in ModelPhase}


@each_recording
def test_argo_cd_shows_it_as_what_it_is(recording):
    body = recording.read()
    verdict = health(body)
    assert verdict.status == recording.health
    conditions = {each["type"]: each for each in body.get("status", {}).get("conditions", [])}
    if recording.health is Health.DEGRADED:
        assert verdict.message == "{reason}: {message}".format(**conditions["Stalled"])


@each_recording
def test_rolled_out_never_stands_beside_what_says_that_it_is_not(recording):
    conditions = recording.read().get("status", {}).get("conditions", [])
    true = {each["type"] for each in conditions if each["status"] == "True"}
    assert not ("RolledOut" in true and true & {"Reconciling", "Stalled"})


@pytest.mark.parametrize("status", [None, {}, {"observedGeneration": -1}, {"conditions": []}])
def test_argo_cd_waits_for_an_object_of_which_little_is_said(status):
    body = deployment_body()
    verdict = health({**body, "status": status} if status is not None else body)
    assert (verdict.status, verdict.message) == (
        "Progressing",
        "The operator has not seen this spec yet",
    )
