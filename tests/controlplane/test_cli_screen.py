"""What `flambeau up` writes where no terminal is: lines for people, objects for programs."""

import json

import pytest

from flambeau_operator.cli.problems import Problem
from flambeau_operator.cli.report import Shown
from flambeau_operator.cli.screen import JsonLines, PlainLines
from tests.controlplane.test_cli_report import READY, deployment, model, pod

PROBLEM = Problem("wine.yaml", 8, 3, "spec.replica", "unknown field", "replicas")
BODY = {"spec": {"models": [{"name": "classifier"}]}}


def shown(**fields):
    return [Shown(deployment(**fields), BODY)]


@pytest.fixture
def lines(capsys):
    def said():
        return capsys.readouterr().out.splitlines()

    return said


def test_a_line_is_written_when_it_changes_and_not_again(lines):
    screen = PlainLines()
    screen.show(shown(pods=(pod(phase="Starting"),)))
    lines()
    screen.show(shown(pods=(pod(phase="Starting"),)))
    assert lines() == []
    screen.show(shown(pods=(pod(),)))
    assert lines() == ["wine: pod wine-0 Ready, pid 12, port 4000, 0 restarts"]


def test_a_failure_comes_with_its_last_log_lines(lines):
    failure = {"reason": "InitializeFailed", "message": "boom", "pod": "p", "logTail": "a\nb"}
    models = [model(targetVersion="2.0", rollout={"lastFailure": failure})]
    PlainLines().show(shown(status={"models": models}))
    text = "\n".join(lines())
    assert "failed: classifier 2.0 in p: InitializeFailed: boom\n    a\n    b" in text


def test_what_to_try_is_said_once_it_is_ready(lines):
    screen = PlainLines()
    screen.show(shown())
    assert not any("curl" in line for line in lines())
    screen.show(shown(status={"conditions": [READY]}))
    assert any("curl" in line for line in lines())


def test_a_broken_file_is_told_with_its_line_and_that_the_old_spec_stays(lines):
    PlainLines().complain([PROBLEM])
    where, what_then = lines()
    assert where == "wine.yaml:8:3: spec.replica: unknown field (did you mean 'replicas'?)"
    assert what_then == "the last good version stays"


def test_programs_get_everything_as_one_object_per_line(lines):
    screen = JsonLines()
    screen.show(shown(status={"conditions": [READY]}, pods=(pod(),)))
    screen.complain([PROBLEM])
    screen.stopping()
    told = [json.loads(line) for line in lines()]
    assert [each["kind"] for each in told] == ["changed", "filesRead", "stopping"]
    assert told[0]["deployments"][0]["pods"][0]["inferenceUrl"] == "http://127.0.0.1:4000"
    assert told[1]["problems"] == [str(PROBLEM)]
