"""Section 10: the life of workers."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import time
from itertools import pairwise

import psutil
import pytest

from tests.compat.handlers import BATCHES, OBEDIENT
from tests.compat.mar import write_mar
from tests.compat.server import until
from tests.compat.ts import FLAGS
from tests.compat.wire import Wire, request_bytes

pytestmark = [pytest.mark.process, pytest.mark.timeout(240)]

JSON = {"Content-Type": "application/json"}
LATENESS_S = 0.2
"""How much too early a timer of another process may seem to be."""

BREAKABLE = '''
import os
import pathlib
import time

class Breakable:
    """Notes when it starts; cannot start while the file `broken` is there."""

    def initialize(self, context):
        folder = pathlib.Path(context.model_yaml_config["handler"]["folder"])
        with (folder / "starts").open("a") as file:
            file.write(f"{time.monotonic()} {os.getpid()}\\n")
        if (folder / "broken").exists():
            raise RuntimeError("told to fail")
        while (folder / "held").exists():
            time.sleep(0.05)

    def handle(self, data, context):
        if data[0]["body"] == "leave":
            os._exit(3)
        return [os.getpid() for _ in data]
'''


@pytest.fixture
def breakable(ts, tmp_path):
    """Serve a model that can be broken; yield its name. Its window of retries is the argument."""

    def config(retry_s):
        return (
            f"minWorkers: 1\nmaxWorkers: 1\nmaxRetryTimeoutInSec: {retry_s}\n"
            f"handler:\n  folder: {tmp_path}\n"
        )

    return lambda retry_s=300: ts.registered(BREAKABLE, config=config(retry_s))


def order(name, **said):
    return request_bytes("POST", f"/predictions/{name}", json.dumps(said).encode(), JSON)


def healthy(ts):
    return ts.inference("GET", "/ping").json == {"status": "Healthy"}


def scale(ts, name, count):
    answer = ts.manage("PUT", f"/models/{name}", min_worker=count, synchronous="true")
    return answer.status, answer.json


@pytest.mark.row("10-process")
def test_a_worker_is_a_process_and_runs_one_batch_at_a_time(ts):
    with ts.registered(SPANS, workers=2) as name, ts.wires(4) as wires:
        for wire in wires:
            wire.send(order(name, sleep=0.5))
        spans = [wire.answer().json for wire in wires]
        pids = {worker["pid"] for worker in ts.workers(name)}
        assert {pid for pid, _, _ in spans} == pids
        assert all(ts.pid in {it.pid for it in psutil.Process(pid).parents()} for pid in pids)
    for pid in pids:
        mine = sorted((begun, ended) for worker, begun, ended in spans if worker == pid)
        assert all(first[1] <= second[0] for first, second in pairwise(mine))


SPANS = """
import os
import time

def handle(data, context):
    if data is None:
        return None
    begun = time.monotonic()
    time.sleep(data[0]["body"]["sleep"])
    return [[os.getpid(), begun, time.monotonic()]]
"""


@pytest.mark.row("10-socket", only="ours")
def test_no_file_leads_to_a_worker(ts):
    with ts.registered(OBEDIENT):
        assert not [it for it in ts.place.temp.rglob("*") if it.is_socket()]


@pytest.mark.row("10-states")
def test_a_worker_is_unloading_until_it_has_loaded_and_ready_then(ts, tmp_path, breakable):
    with breakable() as name:
        assert ts.workers(name)[0]["status"] == "READY"
        (tmp_path / "held").touch()
        scale(ts, name, 0)
        until(lambda: not ts.workers(name))
        ts.manage("PUT", f"/models/{name}", min_worker=1)
        until(lambda: len(starts(tmp_path)) == 2)
        assert [it["status"] for it in ts.workers(name)] == ["UNLOADING"]
        (tmp_path / "held").unlink()
        ts.wait_for_workers(name)


def starts(folder):
    """Return when the model's workers began to load."""
    return [float(it) for it in (folder / "starts").read_text().split()[::2]]


@pytest.mark.row("10-back-off")
def test_restarts_are_1_1_2_and_3_seconds_apart_until_one_succeeds(ts, tmp_path, breakable):
    with breakable() as name, ts.wire() as wire, ts.wire() as again:
        worker = ts.workers(name)[0]["id"]
        (tmp_path / "broken").touch()
        wire.send(request_bytes("POST", f"/predictions/{name}", b'"leave"', JSON))
        until(lambda: len(delays(ts, worker)) >= 4, 90)
        # It goes on until `broken` is gone, and how soon that is depends on this machine.
        assert delays(ts, worker)[:4] == [1, 1, 2, 3]
        (tmp_path / "broken").unlink()
        ts.wait_for_workers(name)
        began = starts(tmp_path)[1:5]
        gaps = [later - earlier for earlier, later in pairwise(began)]
        assert all(gap > s - LATENESS_S for gap, s in zip(gaps, (1, 2, 3), strict=True)), gaps
        wire.answer()
        waited = len(delays(ts, worker))
        again.send(request_bytes("POST", f"/predictions/{name}", b'"leave"', JSON))
        until(lambda: len(delays(ts, worker)) > waited, 90)
        assert delays(ts, worker)[waited] == 1


def delays(ts, worker):
    """Return how long the server says that it waits before each start of a worker, in seconds."""
    said = (
        rf"W-{worker}-.* retry_in_s=(\d+)" if ts.is_ours else rf"Retry worker: {worker} in (\d+) s"
    )
    return [int(it) for it in re.findall(said, ts.output)]


@pytest.fixture
def given_up(ts, tmp_path, breakable):
    """A model whose one worker has failed for longer than its window."""
    with breakable(2) as name:
        (tmp_path / "broken").touch()
        ts.predict(name, b'"leave"')
        until(lambda: is_given_up(ts, name), 60)
        yield name


def is_given_up(ts, name):
    if ts.is_ours:
        return "told to fail" in ts.predict(name).text
    return not healthy(ts)


@pytest.mark.row("1.2-given-up", only="ours")
def test_a_request_to_a_model_that_was_given_up_is_refused_with_the_cause(ts, given_up):
    answer = ts.predict(given_up)
    assert answer.status == 503
    assert "RuntimeError: told to fail" in answer.json["message"]


@pytest.mark.row("10-give-up", only="ours")
def test_a_model_that_was_given_up_comes_back_when_its_cause_is_gone(ts, tmp_path, given_up):
    (tmp_path / "broken").unlink()
    until(lambda: ts.predict(given_up).status == 200)


@pytest.mark.row("10-given-up-same", only="ours")
def test_asking_for_the_same_count_tells_how_it_went(ts, given_up):
    status, told = scale(ts, given_up, 1)
    assert status == 500
    assert "RuntimeError: told to fail" in told["message"]


@pytest.mark.row("10-given-up-more")
def test_asking_for_more_adds_workers_that_serve(ts, tmp_path, given_up):
    (tmp_path / "broken").unlink()
    assert scale(ts, given_up, 2)[0] == 200
    assert ts.predict(given_up).status == 200


@pytest.mark.row("10-given-up-revive")
def test_zero_and_back_revives_a_model(ts, tmp_path, given_up):
    (tmp_path / "broken").unlink()
    scale(ts, given_up, 0)
    assert scale(ts, given_up, 1)[0] == 200
    assert ts.predict(given_up).status == 200


@pytest.mark.row("10-startup-limit")
def test_a_worker_that_does_not_load_in_time_is_ended(ts, tmp_path):
    (tmp_path / "held").touch()
    config = f"startupTimeout: 3\nminWorkers: 1\nmaxWorkers: 1\nhandler:\n  folder: {tmp_path}\n"
    archive = ts.add_archive(BREAKABLE, "slow", config=config)
    assert ts.manage("POST", "/models", url=archive, synchronous="false").status == 202
    until(lambda: (tmp_path / "starts").exists() and starts(tmp_path))
    pid = int((tmp_path / "starts").read_text().split()[1])
    until(lambda: not psutil.pid_exists(pid))
    ts.manage("DELETE", "/models/slow")


@pytest.mark.row("10-crash")
def test_after_a_crash_the_queue_waits_for_the_next_worker(ts):
    with ts.registered(OBEDIENT) as name, ts.wire() as dying, ts.wire() as waiting:
        dying.send(order(name, do="leave", code=3))
        waiting.send(order(name, do="pid"))
        assert dying.answer().status == 500
        assert waiting.answer().status == 200


@pytest.mark.row("10-timeout")
def test_a_worker_that_is_late_is_replaced(ts):
    with ts.registered(OBEDIENT, query={"response_timeout": 1}) as name:
        first = ts.predict(name, b'{"do": "pid"}').json
        assert ts.predict(name, b'{"do": "nap", "s": 60}').status == 500
        assert ts.predict(name, b'{"do": "pid"}').json != first
        until(lambda: not psutil.pid_exists(first))


@pytest.mark.row("10-scale-down-newest")
def test_the_newest_workers_go_first(ts):
    with ts.registered(OBEDIENT) as name:
        first = ts.workers(name)[0]["id"]
        scale(ts, name, 3)
        assert scale(ts, name, 1)[0] == 200
        assert [it["id"] for it in ts.wait_for_workers(name)] == [first]


@pytest.fixture
def in_flight(ts):
    """A request that its worker has begun with, and its model."""
    with ts.registered(OBEDIENT) as name, ts.wire() as wire:
        begun = ts.place.folder / name
        wire.send(order(name, do="nap", s=2, touch=str(begun)))
        until(begun.exists)
        yield name, wire


@pytest.mark.row("10-scale-down", only="ours")
def test_scaling_down_lets_requests_in_flight_finish(ts, in_flight):
    name, wire = in_flight
    assert scale(ts, name, 0)[0] == 200
    assert wire.answer().status == 200


@pytest.mark.row("10-unregister", only="ours")
def test_unregistering_lets_requests_in_flight_finish(ts, in_flight):
    name, wire = in_flight
    assert ts.manage("DELETE", f"/models/{name}").status == 200
    assert wire.answer().status == 200


@pytest.mark.row("10-snapshots", "10-shutdown-snapshot", only="ours")
def test_nothing_is_written_down_but_logs(place):
    assert place.launch("--start", "--model-store", "store") == 0, place.output.read_text()
    place.run("--stop")
    assert not (place.logs / "config").exists()


@pytest.mark.row("10-shutdown")
def test_sigterm_closes_the_listeners_and_ends_the_workers(serve):
    server = serve("--models", "all", prepare=lambda place: write_mar(place.store, "m", OBEDIENT))
    worker = server.wait_for_workers("m", len(server.wait_for_model("m")))[0]["pid"]
    os.kill(server.pid, signal.SIGTERM)
    assert server.process.wait(60) == 0
    until(lambda: not psutil.pid_exists(worker))
    with socket.socket() as sock:
        assert sock.connect_ex(("127.0.0.1", server.ports.inference))


@pytest.mark.row("10-ping-loading")
def test_ping_is_healthy_while_models_load(serve, tmp_path):
    (tmp_path / "held").touch()

    def prepare(place):
        write_mar(place.store, "slow", BREAKABLE, config=f"handler:\n  folder: {tmp_path}\n")

    server = serve("--models", "slow=slow-1.0.mar", prepare=prepare)
    assert healthy(server)
    assert "READY" not in [it["status"] for it in server.wait_for_model("slow")]


@pytest.mark.row("10-listening", only="ours")
def test_a_start_in_the_background_ends_when_its_models_take_requests(place):
    write_mar(place.store, "m", OBEDIENT)
    words = ("--start", "--model-store", "store", "--models", "all", *FLAGS)
    assert place.launch(*words) == 0, place.output.read_text()
    with Wire.to_port(place.ports.inference) as wire:
        assert wire.request("POST", "/predictions/m", b"{}").status == 200
    place.run("--stop")


def batches(ts, **query):
    return ts.registered(BATCHES, query={"max_batch_delay": 300, **query})


@pytest.mark.row("10-batch-joins")
def test_what_waits_for_a_busy_worker_goes_together(ts):
    with batches(ts, batch_size=3) as name, ts.wire() as busy, ts.wires(4) as wires:
        begun = ts.place.folder / name
        busy.send(order(name, sleep=2, touch=str(begun)))
        until(begun.exists)
        for wire in wires:
            wire.send(order(name))
        sizes = sorted(wire.answer().json["size"] for wire in wires)
    assert sizes == [1, 3, 3, 3]


@pytest.mark.row("10-batch-full")
def test_a_full_batch_leaves_at_once(ts):
    with batches(ts, batch_size=2, max_batch_delay=20000) as name, ts.wires(2) as wires:
        began = time.monotonic()
        for wire in wires:
            wire.send(order(name))
        assert all(wire.answer().status == 200 for wire in wires)
        assert time.monotonic() - began < 10


@pytest.mark.row("10-batch-lone", only="ours")
def test_a_lone_request_does_not_wait_for_others(ts):
    with batches(ts, batch_size=8, max_batch_delay=20000) as name:
        began = time.monotonic()
        assert ts.predict(name).status == 200
        assert time.monotonic() - began < 10


@pytest.mark.row("10-max-worker")
def test_load_alone_adds_no_workers(ts):
    with ts.registered(OBEDIENT) as name, ts.wires(8) as wires:
        ts.manage("PUT", f"/models/{name}", min_worker=1, max_worker=3, synchronous="true")
        for wire in wires:
            wire.send(order(name, do="nap", s=0.3))
        assert len({wire.answer().json for wire in wires}) == 1
        assert len(ts.workers(name)) == 1
