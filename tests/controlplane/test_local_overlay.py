"""What commands set on an object of `flambeau up` beside its file, and what edits leave of it."""

from datetime import UTC, datetime

import pytest

from flambeau_operator.doors import Key, Ref
from flambeau_operator.errors import Conflict
from flambeau_operator.local.objects import ObjectFiles
from flambeau_operator.local.overlay import Overlay, bare, laid_over
from flambeau_operator.resources.model_deployment import parse
from tests.builders import deployment_body, model_body

KEY = Key("default", "vision")
PROMOTE = "serving.flambeau.dev/promote"


def wish(version="1.0", annotations=None, **spec):
    body = deployment_body(model_body(version=version), **spec)
    body["metadata"] = {"name": "vision"} | ({"annotations": annotations} if annotations else {})
    return body


@pytest.fixture
def held(tmp_path):
    files = ObjectFiles(tmp_path, lambda: datetime(2026, 1, 2, tzinfo=UTC))
    files.apply(KEY, wish(), "")
    return files


def patch(held, annotations=None, paused=None):
    ref = Ref(KEY, held.read(KEY)["metadata"]["uid"], "")
    return held.patch(ref, annotations or {}, paused)


def told(held):
    """Return what the operator would read: annotations, and whether rollouts pause."""
    deployment = parse(held.read(KEY))
    return deployment.metadata.annotations, deployment.spec.rollout.paused


def test_a_pause_by_command_is_another_generation_and_an_annotation_is_not(held):
    assert patch(held, {PROMOTE: "5f0c"})["metadata"]["generation"] == 1
    assert patch(held, paused=True)["metadata"]["generation"] == 2
    assert told(held) == ({PROMOTE: "5f0c"}, True)


def test_what_is_so_already_is_not_written_again(held):
    before = patch(held, {PROMOTE: "5f0c"}, paused=True)["metadata"]["resourceVersion"]
    after = patch(held, {PROMOTE: "5f0c"}, paused=True)["metadata"]["resourceVersion"]
    assert after == before


def test_what_commands_set_survives_an_edit_of_the_file_that_does_not_speak_of_it(held):
    patch(held, {PROMOTE: "5f0c"}, paused=True)
    held.apply(KEY, wish("2.0", rollout={"progressDeadline": "5m"}), "")
    assert told(held) == ({PROMOTE: "5f0c"}, True)
    assert parse(held.read(KEY)).spec.rollout.progress_deadline_s == 300


def test_what_commands_set_survives_the_session(held, tmp_path):
    patch(held, {PROMOTE: "5f0c"}, paused=True)
    later = ObjectFiles(tmp_path, lambda: datetime(2026, 1, 3, tzinfo=UTC))
    later.apply(KEY, wish(), "")
    assert told(later) == ({PROMOTE: "5f0c"}, True)


@pytest.mark.parametrize(
    ("files", "then", "paused"),
    [
        pytest.param({"paused": False}, {"paused": True}, True, id="what the file says now"),
        pytest.param({"paused": False}, {}, False, id="a line that leaves the file"),
        pytest.param({}, {"paused": False}, False, id="a line that comes into the file"),
    ],
)
def test_an_edit_of_the_pause_itself_counts_more_than_a_command_before_it(
    held, files, then, paused
):
    held.apply(KEY, wish(rollout=files), "")
    patch(held, paused=True)
    held.apply(KEY, wish(rollout=then), "")
    assert told(held)[1] is paused


def test_an_edit_elsewhere_leaves_a_command_that_goes_against_the_file(held):
    held.apply(KEY, wish(rollout={"paused": True}), "")
    patch(held, paused=False)
    held.apply(KEY, wish("2.0", rollout={"paused": True}), "")
    assert told(held)[1] is False


def test_an_annotation_that_the_file_takes_up_is_the_files(held):
    patch(held, {PROMOTE: "5f0c", "other": "kept"})
    held.apply(KEY, wish(annotations={PROMOTE: "abcd"}), "")
    assert told(held)[0] == {PROMOTE: "abcd", "other": "kept"}
    held.apply(KEY, wish(), "")
    assert told(held)[0] == {"other": "kept"}


def test_an_annotation_is_taken_away_by_none(held):
    patch(held, {PROMOTE: "5f0c"})
    patch(held, {PROMOTE: None})
    assert told(held)[0] == {}


def test_a_command_for_an_object_that_is_gone_is_a_conflict(held):
    with pytest.raises(Conflict):
        held.patch(Ref(KEY, "another uid", ""), {}, True)


@pytest.mark.parametrize("spec", [{}, {"rollout": {}}, {"rollout": {"paused": False}}])
@pytest.mark.parametrize("annotations", [None, {"mine": "1"}])
def test_what_is_laid_over_a_manifest_comes_off_again_without_a_trace(spec, annotations):
    written = wish(annotations=annotations, **spec)
    assert bare(laid_over(written, Overlay({PROMOTE: "5f0c"}, paused=True))) == written
