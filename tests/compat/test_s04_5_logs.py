"""Section 4.5: log files and their lines."""

from __future__ import annotations

import re

import pytest

from tests.compat.server import until

pytestmark = [pytest.mark.process, pytest.mark.timeout(180)]

TIME = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d,\d{3}"
PRINTS = """
    import logging
    import sys

    print("while it is imported")

    def handle(data, context):
        if data is None:
            return None
        print("on stdout")
        print("on stderr", file=sys.stderr)
        logging.getLogger("handler").info("logged %d", 1)
        logging.getLogger("handler").debug("not logged")
        return ["said" for _ in data]
"""


@pytest.fixture(scope="module")
def asked(serve_module):
    """A server that was asked a few things."""
    server = serve_module(config={"metrics_mode": "log"})
    with server.registered(PRINTS, "talkative") as model:
        server.predict(model)
        server.inference("GET", "/ping?a=1")
        server.predict("nobody")
    return server


def lines(server, file, pattern):
    """Wait for lines of a log that match as a whole, and return them."""
    return until(lambda: [it for it in server.log(file).splitlines() if re.fullmatch(pattern, it)])


@pytest.mark.row("4.5-files")
def test_there_are_five_files(asked):
    files = {path.name for path in asked.place.logs.iterdir() if path.is_file()}
    assert files == {
        "access_log.log",
        "model_log.log",
        "model_metrics.log",
        "ts_log.log",
        "ts_metrics.log",
    }


@pytest.mark.row("4.5-files")
def test_the_servers_own_lines_have_time_level_thread_and_logger(asked):
    where = f"http://127.0.0.1:{asked.ports.inference}"
    said = rf"{TIME} \[INFO \] \S+ [\w.]+ - Inference API bind to: {where}"
    assert lines(asked, "ts_log.log", said)


@pytest.mark.row("4.5-access")
@pytest.mark.parametrize(
    ("request_line", "status"),
    [
        pytest.param("POST /predictions/talkative HTTP/1.1", 200, id="a prediction"),
        pytest.param(r"GET /ping\?a=1 HTTP/1.1", 200, id="with its query string"),
        pytest.param("POST /predictions/nobody HTTP/1.1", 404, id="an error"),
        pytest.param("DELETE /models/talkative HTTP/1.1", 200, id="of management, too"),
    ],
)
def test_an_access_line_tells_who_asked_what_the_status_and_how_long(asked, request_line, status):
    said = rf'{TIME} - /127\.0\.0\.1:\d+ "{request_line}" {status} \d+'
    assert len(lines(asked, "access_log.log", said)) == 1


@pytest.mark.row("4.5-worker-output")
@pytest.mark.parametrize(
    ("level", "stream", "text"),
    [
        pytest.param("INFO ", "stdout", "while it is imported", id="while it is loaded"),
        pytest.param("INFO ", "stdout", "on stdout", id="what it prints"),
        pytest.param("WARN ", "stderr", "on stderr", id="what it prints on stderr"),
        pytest.param("INFO ", "stdout", "logged 1", id="what it logs"),
    ],
)
def test_what_a_worker_says_is_in_its_log_under_the_workers_name(asked, level, stream, text):
    said = rf"{TIME} \[{level}\] W-\d+-talkative_1\.0-{stream} MODEL_LOG - {text}"
    assert len(lines(asked, "model_log.log", said)) == 1


@pytest.mark.row("4.5-worker-output")
def test_details_of_a_handlers_log_are_left_out(asked):
    assert lines(asked, "model_log.log", r".* - logged 1")
    assert "not logged" not in asked.log("model_log.log")


@pytest.mark.row("4.5-files", "4.5-worker-output")
def test_the_console_shows_lines_of_the_server_and_of_workers(asked):
    until(lambda: "MODEL_LOG - on stdout" in asked.output)
    assert "Inference API bind to" in asked.output
