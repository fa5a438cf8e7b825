"""Section 2.3: the fields of a description."""

from __future__ import annotations

import os
import re
from datetime import UTC, datetime

import pytest

from tests.compat.mar import write_mar
from tests.compat.server import until

pytestmark = [pytest.mark.process, pytest.mark.timeout(180)]

PID = """
    import os

    def handle(data, context):
        if data is not None:
            return [os.getpid() for _ in data]
"""
SLOW_START = """
    import pathlib, time

    def handle(data, context):
        if data is None:
            while not pathlib.Path("go").exists():
                time.sleep(0.05)
            return None
        return ["x" for _ in data]
"""
SLEEPS = """
    import time

    def handle(data, context):
        if data is not None:
            time.sleep(3)
            return ["x" for _ in data]
"""


@pytest.fixture(scope="module")
def model(ts):
    with ts.registered(PID) as model:
        yield model


@pytest.mark.row("2.3-model-fields", "2.3-queue")
def test_a_model_is_described_field_by_field(ts, model):
    found = ts.describe(model)
    workers = found["workers"]
    assert list(found.items()) == [
        ("modelName", model),
        ("modelVersion", "1.0"),
        ("modelUrl", f"{model}-1.0.mar"),
        ("runtime", "python"),
        ("minWorkers", 1),
        ("maxWorkers", 1),
        ("batchSize", 1),
        ("maxBatchDelay", 100),
        ("responseTimeout", 120),
        ("startupTimeout", 120),
        ("maxRetryTimeoutInSec", 300),
        ("clientTimeoutInMills", 0),
        ("parallelType", ""),
        ("parallelLevel", 0),
        ("deviceType", "cpu"),
        ("continuousBatching", False),
        ("useJobTicket", False),
        ("useVenv", False),
        ("stateful", False),
        ("sequenceMaxIdleMSec", 0),
        ("sequenceTimeoutMSec", 0),
        ("maxNumSequence", 0),
        ("maxSequenceJobQueueSize", 0),
        ("loadedAtStartup", False),
        ("workers", workers),
        ("jobQueueStatus", {"remainingCapacity": 100, "pendingRequests": 0}),
    ]


@pytest.mark.row("2.3-model-fields")
def test_a_model_from_the_start_says_so(serve):
    server = serve(
        "--models",
        "m=m-1.0.mar",
        config={"default_workers_per_model": "1"},
        prepare=lambda place: write_mar(place.store, "m", PID),
    )
    until(lambda: server.manage("GET", "/models/m").status == 200)
    assert server.describe("m")["loadedAtStartup"] is True


@pytest.mark.row("2.3-queue")
def test_what_waits_in_the_queue_is_counted(ts):
    with ts.registered(SLEEPS) as model, ts.wire() as one, ts.wire() as other:
        for wire in (one, other):
            wire.send(f"GET /predictions/{model} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        queue = {"remainingCapacity": 99, "pendingRequests": 1}
        until(lambda: ts.describe(model)["jobQueueStatus"] == queue, 3)
        assert [one.answer().status, other.answer().status] == [200, 200]


@pytest.mark.row("2.3-worker-fields", "2.3-gpu-usage", "2.3-worker-status")
def test_a_worker_is_described_field_by_field(ts, model):
    (worker,) = ts.workers(model)
    assert list(worker) == [
        "id", "startTime", "status", "memoryUsage", "pid", "gpu", "gpuUsage",
    ]  # fmt: skip
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", worker["startTime"])
    started = datetime.fromisoformat(worker["startTime"])
    assert abs((datetime.now(UTC) - started).total_seconds()) < 180
    assert worker["status"] == "READY"
    assert worker["pid"] == int(ts.predict(model).text)
    assert os.path.exists(f"/proc/{worker['pid']}")  # noqa: PTH110
    assert worker["memoryUsage"] >= 0
    assert (worker["gpu"], worker["gpuUsage"]) == (False, "N/A")


@pytest.mark.row("2.3-worker-id")
def test_workers_are_numbered_from_the_configured_port(serve):
    server = serve(config={"initial_worker_port": "9500"})
    with server.registered(PID, "m", workers=2):
        assert sorted(worker["id"] for worker in server.workers("m")) == ["9500", "9501"]


@pytest.mark.row("2.3-worker-status")
def test_a_worker_that_loads_says_unloading(ts):
    archive = ts.add_archive(SLOW_START)
    name = archive.removesuffix("-1.0.mar")
    asked = {"url": archive, "initial_workers": 1, "synchronous": "false"}
    try:
        assert ts.manage("POST", "/models", **asked).status == 202
        (worker,) = until(lambda: ts.workers(name))
        assert worker["status"] == "UNLOADING"
    finally:
        ts.manage("DELETE", f"/models/{name}")
