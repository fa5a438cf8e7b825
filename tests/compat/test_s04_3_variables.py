"""Section 4.3: variables that are no keys."""

from __future__ import annotations

import pytest

pytestmark = [pytest.mark.process, pytest.mark.timeout(180)]

WHERE = """
    import os

    def handle(data, context):
        return data and [os.getcwd() for row in data]
"""


@pytest.mark.row("4.3-log-locations")
def test_logs_and_logs_of_metrics_have_their_own_places(serve):
    env = {"LOG_LOCATION": "own", "METRICS_LOCATION": "own/numbers"}
    server = serve(env=env, config={"metrics_mode": "log"})
    server.inference("GET", "/ping")
    for folder, files in (
        ("own", {"access_log.log", "model_log.log", "ts_log.log"}),
        ("own/numbers", {"model_metrics.log", "ts_metrics.log"}),
    ):
        there = {path.name for path in (server.place.folder / folder).iterdir() if path.is_file()}
        assert there == files


@pytest.mark.row("4.3-temp")
def test_archives_are_extracted_below_temp(serve):
    server = serve()
    with server.registered(WHERE) as model:
        assert server.predict(model).text.startswith(str(server.place.temp))


@pytest.mark.row("4.3-java-home", only="ours")
def test_no_java_is_looked_for(serve):
    assert serve(env={"JAVA_HOME": "/nowhere"}).inference("GET", "/ping").status == 200
