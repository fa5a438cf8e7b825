"""A runtime as a process, told by signed documents: what a swap without room looks like outside."""

from __future__ import annotations

import json
import threading
from contextlib import closing
from http.client import HTTPConnection
from urllib.parse import urlsplit

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from tests.compat.server import call, serving, until, write_archive
from tests.dataplane.signing import bearer, public_text

pytestmark = [pytest.mark.process, pytest.mark.timeout(120)]

OWNER = {"namespace": "team-a", "name": "vision", "uid": "uid-1"}
HEAVY = """
BALLAST = b"x" * (80 * 1024 * 1024)
def handle(data, context):
    if data is not None:
        return [context.manifest["model"]["modelVersion"] for _ in data]
"""
KEY = Ed25519PrivateKey.generate()


class Pod:
    """A managed runtime and its operator."""

    def __init__(self, folder, server) -> None:
        self.folder = folder
        self.server = server
        self.sequence = 1

    def put(self, *versions, **model):
        self.sequence += 1
        wanted = document(self.folder, self.sequence, *versions, **model)
        body = json.dumps(wanted).encode()
        answer = self.server.manage("PUT", "/state", body, Authorization=bearer(KEY, body))
        assert answer.status == 202, answer.json

    def observed(self):
        answer = self.server.manage("GET", "/state", Authorization=bearer(KEY))
        assert answer.status == 200, answer.json
        return answer.json["observed"]

    def version(self, number):
        (model,) = self.observed()["models"]
        return next((it for it in model["versions"] if it["version"] == number), None)

    def ready(self):
        return self.server.manage("GET", "/ready").status == 200

    def ask_and_stay(self):
        """The answer to a client that would keep its connection, and whether it may not."""
        connection = HTTPConnection(urlsplit(self.server.inference).netloc, timeout=20)
        with closing(connection):
            connection.request("POST", "/predictions/heavy", b"{}")
            answer = connection.getresponse()
            return answer.read(), answer.will_close

    def metrics(self):
        return call("GET", f"{self.server.metrics}/metrics").body.decode()


def document(folder, sequence, *versions, **model):
    sources = {it: (folder / "store" / f"heavy-{it}.mar").as_uri() for it in versions}
    wanted = [
        {"version": it, "source": {"uri": sources[it]}, "workers": {"min": 1, "max": 2}}
        for it in versions
    ]
    entry = {"name": "heavy", "default": versions[0], "versions": wanted, **model}
    return {"owner": OWNER, "sequence": sequence, "generation": 1, "models": [entry]}


@pytest.fixture
def pod(tmp_path, request):
    for version in ("1.0", "2.0"):
        write_archive(tmp_path / "store", "heavy", version, HEAVY)
    boot = tmp_path / "models.json"
    content = {"document": document(tmp_path, 1, "1.0"), "publicKeys": [public_text(KEY)]}
    boot.write_text(json.dumps(content))
    flags = ("--boot-file", str(boot), "--owner-uid", OWNER["uid"], "--swap-delay", "1.5")
    with serving(tmp_path, *flags, launcher=getattr(request, "param", ())) as server:
        pod = Pod(tmp_path, server)
        until(pod.ready)
        yield pod


def test_memory_is_told_of_the_pod_and_of_its_versions(pod):
    memory = pod.observed()["memory"]
    assert 0 < memory["availableBytes"] < memory["limitBytes"]
    assert memory["deviceAvailableBytes"] is None
    held = pod.version("1.0")["memory"]
    assert 80 * 1024**2 < held["workerBytes"] < 200 * 1024**2
    assert held["deviceBytes"] == 0


def test_saturation_is_on_the_page_of_metrics_for_the_pod_and_for_each_model(pod):
    assert pod.server.predict("heavy").status == 200
    page = pod.metrics()
    assert "# TYPE flambeau_saturation gauge" in page
    assert 'flambeau_model_saturation{model_name="heavy",hostname="' in page


def test_recreated_the_pod_leaves_first_answers_on_and_is_ready_when_the_new_version_is(pod):
    answers, stop = [], threading.Event()

    def client():
        while not stop.is_set():
            answer = pod.server.predict("heavy")
            answers.append((answer.status, answer.body, answer.headers))
            stop.wait(0.01)

    asking = threading.Thread(target=client)
    asking.start()
    try:
        pod.put("2.0", swap="Recreate")
        until(lambda: not pod.ready())
        until(lambda: pod.ask_and_stay() == (b"1.0", True))
        until(pod.ready)
        until(lambda: pod.ask_and_stay() == (b"2.0", False))
    finally:
        stop.set()
        asking.join()
    refused = [(status, headers) for status, _, headers in answers if status != 200]
    assert all(status == 503 and int(headers["retry-after"]) > 0 for status, headers in refused)
    bodies = [body for status, body, _ in answers if status == 200]
    assert bodies == sorted(bodies)
    assert pod.version("1.0") is None


@pytest.mark.parametrize("pod", [("env", "FLAMBEAU_MEMORY_LIMIT=220000000")], indirect=True)
def test_beside_a_declared_limit_a_candidate_is_refused_and_in_turn_it_fits(pod):
    assert pod.observed()["memory"]["limitBytes"] == 220_000_000
    pod.put("1.0", "2.0")
    failed = until(lambda: pod.version("2.0")["lastFailure"])
    assert failed["reason"] == "InsufficientMemory"
    assert "beside version 1.0" in failed["message"]
    assert pod.ready()
    pod.put("2.0", swap="Recreate")
    until(lambda: pod.version("2.0")["phase"] == "Ready")
    assert pod.server.predict("heavy").body == b"2.0"


def test_a_limit_that_is_no_number_of_bytes_is_refused_with_its_name(tmp_path):
    launcher = ("env", "FLAMBEAU_MEMORY_LIMIT=8Gi")
    with (
        pytest.raises(AssertionError, match="FLAMBEAU_MEMORY_LIMIT=8Gi cannot be"),
        serving(tmp_path, launcher=launcher),
    ):
        pass
