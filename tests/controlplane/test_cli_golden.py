"""Golden requests: how they are written, and what counts as the answer that is expected."""

import json

import pytest

from flambeau_operator.cli.golden import (
    Answered,
    Golden,
    UnreadableRequests,
    quantile_ms,
    read_requests,
    unexpected,
    warmup_requests,
)
from flambeau_operator.resources.comparison import Comparison
from tests.builders import a_deployment, model_body


@pytest.fixture
def read(tmp_path):
    def read_lines(*lines):
        file = tmp_path / "golden.jsonl"
        text = (line if isinstance(line, str) else json.dumps(line) for line in lines)
        file.write_text("\n".join(text), encoding="utf-8")
        return read_requests(file)

    return read_lines


def test_a_line_is_a_request_and_an_empty_one_is_none(read, tmp_path):
    (tmp_path / "cat.jpg").write_bytes(b"\xff\xd8")
    found = read(
        {"body": {"x": [1]}, "expect": {"y": 2}},
        "",
        {"body": "plain", "contentType": "text/plain", "model": "a"},
        {"bodyFile": "cat.jpg", "contentType": "image/jpeg"},
        {"bodyBase64": "/9g="},
    )
    assert [each.body for each in found] == [b'{"x": [1]}', b"plain", b"\xff\xd8", b"\xff\xd8"]
    assert [each.content_type for each in found[:3]] == [
        "application/json",
        "text/plain",
        "image/jpeg",
    ]
    assert (found[0].expect, found[1].expect, found[1].model) == (b'{"y": 2}', None, "a")
    assert found[1].where.endswith("golden.jsonl:3")


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        pytest.param(["{"], r"golden.jsonl:1: not JSON", id="no JSON"),
        pytest.param([{"body": 1}, [1]], r":2: expected an object", id="no object"),
        pytest.param([{"body": 1, "expects": 2}], r":1: expects: unknown; there", id="a typo"),
        pytest.param([{"contentType": "x"}], ":1: give one of body, bodyFile", id="no body"),
        pytest.param([{"body": 1, "bodyFile": "x"}], ":1: give one of", id="two bodies"),
        pytest.param([{"bodyFile": "x"}], ":1: the body cannot be read", id="no such file"),
        pytest.param([{"bodyBase64": "*"}], ":1: the body cannot be read", id="no base64"),
        pytest.param([""], "there is no request", id="nothing at all"),
    ],
)
def test_a_file_that_is_wrong_is_refused_with_its_line(read, lines, words):
    with pytest.raises(UnreadableRequests, match=words):
        read(*lines)


def test_a_file_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(UnreadableRequests, match=r"none.jsonl: cannot be read"):
        read_requests(tmp_path / "none.jsonl")


CLOSE = Comparison.model_validate({"tolerances": [{"path": "$.p", "absolute": 0.1}]})


@pytest.mark.parametrize(
    ("expect", "answer", "rules", "wrong"),
    [
        pytest.param(None, b"anything", None, None, id="nothing is expected"),
        pytest.param(b'{"p": 1}', b'{"p":1.0}', None, None, id="JSON by value"),
        pytest.param(b'{"p": 1}', b'{"p": 1.05}', CLOSE, None, id="within a tolerance"),
        pytest.param(b'{"p": 1}', b'{"p": 2}', CLOSE, "$.p: 2, not 1", id="beyond it"),
        pytest.param(b"cat", b'"cat"', None, None, id="text that the answer has in quotes"),
        pytest.param(b"cat", b"cat\n", None, None, id="text and the end of its line"),
        pytest.param(b"cat", b"dogs", None, "4 bytes, not 3", id="another text"),
    ],
)
def test_an_answer_is_the_expected_one_by_the_rules_of_the_model(expect, answer, rules, wrong):
    assert unexpected(Golden(b"", expect=expect), Answered(200, answer, 0.0), rules) == wrong


def test_without_a_file_the_warm_up_requests_are_asked():
    warmup = {"requests": [{"body": "[1]"}, {"body": "x", "contentType": "text/plain"}]}
    (model,) = a_deployment(model_body(warmup=warmup)).spec.models
    assert [(it.body, it.content_type, it.model) for it in warmup_requests(model)] == [
        (b"[1]", "application/json", "classifier"),
        (b"x", "text/plain", "classifier"),
    ]


def test_quantiles_are_times_that_were_measured():
    times = [number / 1000 for number in range(1, 101)]
    assert (quantile_ms(times, 0.5), quantile_ms(times, 0.95)) == (51.0, 96.0)
    assert quantile_ms([0.002], 0.95) == 2.0
    assert quantile_ms([], 0.5) is None
