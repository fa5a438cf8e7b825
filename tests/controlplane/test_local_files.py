"""What local mode keeps in files, and what it makes of files that are not as it left them."""

from datetime import UTC, datetime

import pytest

from flambeau_operator.doors import Key
from flambeau_operator.errors import Unavailable
from flambeau_operator.local import pod_log
from flambeau_operator.local.objects import ObjectFiles, write_file
from flambeau_operator.local.pod import Listening, lowest_free, read_listening
from tests.builders import deployment_body, model_body

KEY = Key("default", "vision")


def objects(folder):
    return ObjectFiles(folder, lambda: datetime(2026, 1, 2, tzinfo=UTC))


def identity(held):
    return held.read(KEY)["metadata"]["uid"], held.read(KEY)["metadata"]["generation"]


def wish(version="1.0"):
    body = deployment_body(model_body(version=version))
    body["metadata"] = {"name": "vision"}
    return body


def test_an_object_keeps_its_identity_from_session_to_session(tmp_path):
    first, second = objects(tmp_path), objects(tmp_path)
    first.apply(KEY, wish(), "http://127.0.0.1:1")
    second.apply(KEY, wish("2.0"), "http://127.0.0.1:2")
    assert identity(second) == (identity(first)[0], 2)
    assert second.read(KEY)["status"]["url"] == "http://127.0.0.1:2"


def test_applying_the_same_again_changes_nothing(tmp_path):
    held = objects(tmp_path)
    assert held.apply(KEY, wish(), "http://127.0.0.1:1")
    before = held.read(KEY)
    assert not held.apply(KEY, wish(), "http://127.0.0.1:1")
    assert held.read(KEY) == before


def test_an_annotation_moves_the_version_but_not_the_generation(tmp_path):
    held = objects(tmp_path)
    held.apply(KEY, wish(), "")
    before = held.read(KEY)["metadata"]
    annotated = wish()
    annotated["metadata"]["annotations"] = {"serving.flambeau.dev/retry": "5f0c"}
    assert held.apply(KEY, annotated, "")
    after = held.read(KEY)["metadata"]
    assert after["generation"] == before["generation"]
    assert after["resourceVersion"] != before["resourceVersion"]


@pytest.mark.parametrize(
    "left",
    [
        pytest.param("", id="an empty file"),
        pytest.param('{"metadata": {"uid": "u"', id="a file cut short"),
        pytest.param("[1]", id="no object"),
        pytest.param('{"metadata": {"uid": "", "resourceVersion": "1"}, "spec": {}}', id="no uid"),
        pytest.param('{"metadata": {"uid": "u", "resourceVersion": "1"}}', id="no spec"),
    ],
)
def test_what_cannot_be_read_any_more_is_begun_anew(left, tmp_path):
    write_file(tmp_path / "default" / "vision" / "object.json", left)
    held = objects(tmp_path)
    held.apply(KEY, wish(), "")
    assert identity(held)[1] == 1


def test_a_file_that_cannot_be_written_is_a_fault_that_may_pass(tmp_path):
    (tmp_path / "folder").write_text("in the way")
    with pytest.raises(Unavailable, match="cannot write"):
        write_file(tmp_path / "folder" / "object.json", "{}")


def test_a_long_log_begins_anew_and_keeps_one_predecessor(tmp_path, monkeypatch):
    monkeypatch.setattr(pod_log, "LONGEST_LOG_BYTES", 100)
    log = tmp_path / "runtime.log"
    with log.open("ab") as writer:
        writer.write(b"old\n" * 50)
        writer.flush()
        pod_log.trim_log(log)
        writer.write(b"new\n")
    assert log.read_bytes() == b"new\n"
    assert (tmp_path / "runtime.log.1").read_bytes() == b"old\n" * 50


@pytest.mark.parametrize(
    ("content", "tail"),
    [
        pytest.param(b"one\ntwo\n", "one\ntwo", id="a short log is shown whole"),
        pytest.param(
            b"first line\nsecond\nthird\n", "second\nthird", id="a long one from a line on"
        ),
        pytest.param(b"\xff\xfe\n", "\ufffd\ufffd", id="bytes that are no text harm nobody"),
        pytest.param(None, "", id="no log, no words"),
    ],
)
def test_the_last_words_of_a_process(content, tail, tmp_path):
    log = tmp_path / "runtime.log"
    if content is not None:
        log.write_bytes(content)
    assert pod_log.log_tail(log, size=16) == tail


@pytest.mark.parametrize(
    ("content", "listening"),
    [
        pytest.param(
            '{"pid": 7, "inference": "http://a:1", "management": "http://a:2"}',
            Listening("http://a:1", "http://a:2"),
            id="its own",
        ),
        pytest.param(
            '{"pid": 8, "inference": "http://a:1", "management": "http://a:2"}',
            None,
            id="left by another process",
        ),
        pytest.param('{"pid": 7, "infer', None, id="cut short"),
        pytest.param("[]", None, id="something else"),
    ],
)
def test_where_a_process_listens(content, listening, tmp_path):
    file = tmp_path / "listening.json"
    file.write_text(content)
    assert read_listening(file, 7) == listening


def test_names_of_pods_that_left_are_taken_again():
    assert lowest_free(["a-0", "a-2"], "a") == "a-1"
