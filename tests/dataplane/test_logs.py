"""Where log lines go and what they look like."""

from __future__ import annotations

import json
import logging
import re
from pathlib import Path

import pytest

from flambeau_runtime import logs

log = logging.getLogger("flambeau_runtime.somewhere")
model_log = logging.getLogger(logs.MODEL_OUTPUT)


def test_the_runtime_writes_json_lines_with_the_fields_of_the_event(capsys):
    with logs.writing(None):
        log.warning("worker died", extra={"worker": "W-9000-m_1.0", "exit_code": 9})
    (line,) = capsys.readouterr().out.splitlines()
    told = json.loads(line)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}\+00:00", told.pop("time"))
    assert told == {
        "level": "warning",
        "logger": "flambeau_runtime.somewhere",
        "event": "worker died",
        "worker": "W-9000-m_1.0",
        "exit_code": 9,
    }


def test_a_traceback_is_a_field_of_its_line(capsys):
    with logs.writing(None):
        try:
            int("no")
        except ValueError:
            log.exception("failed")
    told = json.loads(capsys.readouterr().out)
    assert told["event"] == "failed"
    assert told["traceback"].splitlines()[-1].startswith("ValueError: ")


def test_lines_below_the_level_are_not_written(capsys):
    with logs.writing(None, "WARNING"):
        log.info("all is well")
    assert capsys.readouterr().out == ""


@pytest.fixture
def files(tmp_path) -> Path:
    with logs.writing(tmp_path, console=False) as access:
        assert access is not None
        log.info("listening", extra={"port": 8080})
        model_log.info("worker output", extra={"worker": "W-9000-m_1.0", "line": "hello"})
        access.note("127.0.0.1:5", "POST", "/predictions/m", 200, 12.4)
    return tmp_path


@pytest.mark.parametrize(
    ("name", "line"),
    [
        pytest.param(
            "ts_log.log",
            r"TIME \[INFO \] MainThread flambeau_runtime\.somewhere - listening port=8080\n",
            id="ts_log.log has the server's own lines",
        ),
        pytest.param(
            "model_log.log",
            r"TIME \[INFO \] W-9000-m_1\.0 MODEL_LOG - hello\n",
            id="model_log.log has what workers print, under their names",
        ),
        pytest.param(
            "access_log.log",
            r'TIME - /127\.0\.0\.1:5 "POST /predictions/m HTTP/1\.1" 200 12\n',
            id="access_log.log has a line per request",
        ),
    ],
)
def test_torchserves_files_have_its_line_formats(files, name, line):
    time = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d,\d{3}"
    assert re.fullmatch(line.replace("TIME", time), (files / name).read_text())


def test_a_log_that_cannot_keep_up_drops_lines_and_says_so(monkeypatch, capsys):
    monkeypatch.setattr(logs, "LINES_WAITING", 1)
    monkeypatch.setattr(logging.handlers.QueueListener, "start", lambda _: None)
    monkeypatch.setattr(logging.handlers.QueueListener, "stop", lambda _: None)
    with logs.writing(None):
        for _ in range(3):
            log.info("line")
    assert "2 log lines were dropped" in capsys.readouterr().err


def test_nothing_is_left_behind_when_writing_ends():
    root = logging.getLogger()
    before = list(root.handlers), root.level
    with logs.writing(None):
        assert list(root.handlers) != before[0]
    assert (list(root.handlers), root.level) == before
