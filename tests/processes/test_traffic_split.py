"""Weights, keys and shadows in a real runtime: real workers, real sockets, signed documents."""

from __future__ import annotations

import json
import os
import re
import signal
import time
from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from tests.compat.server import Server, call, serving, until, write_archive
from tests.dataplane.signing import bearer, public_text
from tests.grpc_client import INFERENCE, Client, our_messages

pytestmark = [pytest.mark.process, pytest.mark.timeout(240)]

KEY = Ed25519PrivateKey.generate()
UID = "uid-1"
OWNER = {"namespace": "team-a", "name": "echo", "uid": UID}

HANDLER = """
import os, time

VERSION = {version!r}

def handle(data, context):
    if data is None:
        return None
    context.metrics.add_counter("Seen", len(data))
    return [answer(row["body"] if "body" in row else bytes(row["data"])) for row in data]

def answer(body):
    wish = body.get("shadow") if isinstance(body, dict) else None
    if VERSION == "2.0" and wish == "raises":
        raise ValueError("the candidate cannot")
    if VERSION == "2.0" and wish == "dies":
        os._exit(3)
    if VERSION == "2.0" and wish == "hangs":
        time.sleep(3600)
    if wish:
        return {{"score": 0.5 if VERSION == "1.0" else 0.5001, "of": wish}}
    if not isinstance(body, dict):
        return {{"version": VERSION, "size": len(body)}}
    return {{"version": VERSION, "pid": os.getpid()}}
"""


@dataclass
class Managed:
    """A runtime that takes documents, and the document that it has."""

    server: Server
    sources: dict[str, str]
    sequence: int = 0

    def wants(self, *weights: tuple[str, int], response_s: float = 30, **model: Any) -> None:
        """Want these versions and wait until their weights are as wanted."""
        self.sequence += 1
        versions = [
            {
                "version": version,
                "source": {"uri": self.sources[version]},
                "weight": weight,
                "batching": {"maxSize": 4, "maxDelaySeconds": 0},
                "timeouts": {"responseSeconds": response_s},
            }
            for version, weight in (weights or [("1.0", 0)])
        ]
        entry = {"name": "echo", "default": "1.0", "versions": versions, **model}
        body = json.dumps({"owner": OWNER, "sequence": self.sequence, "models": [entry]}).encode()
        answer = self.server.manage("PUT", "/state", body, Authorization=bearer(KEY, body))
        assert answer.status == 202, answer.json
        wanted = {version for version, _ in weights}
        until(lambda: wanted <= {it["version"] for it in self.seen() if it["phase"] == "Ready"})

    def seen(self) -> list[dict[str, Any]]:
        return self.observed()["models"][0]["versions"]

    def observed(self) -> dict[str, Any]:
        answer = self.server.manage("GET", "/state", Authorization=bearer(KEY))
        return answer.json["observed"]

    def version(self, number: str) -> dict[str, Any]:
        return next(it for it in self.seen() if it["version"] == number)

    def says(self, path: str = "echo", **headers: str) -> str:
        answer = self.server.predict(path, b"{}", Content_Type="application/json", **headers)
        assert answer.status == 200, answer.body
        return answer.json["version"]

    def page(self) -> dict[tuple[str, str], float]:
        """The metrics: (name, model_version) to value; without a version, ""."""
        found = {}
        text = call("GET", f"{self.server.metrics}/metrics").body.decode()
        for name, labels, value in re.findall(r"^(\w+)\{(.*)\} (\S+)$", text, re.MULTILINE):
            if "le=" not in labels:
                version = re.search(r'model_version="([^"]*)"', labels)
                found[name, version[1] if version else ""] = float(value)
        return found


@contextmanager
def managed(folder, *flags):
    sources = {
        version: (
            folder
            / "store"
            / write_archive(folder / "store", "echo", version, HANDLER.format(version=version))
        ).as_uri()
        for version in ("1.0", "2.0", "3.0")
    }
    boot = folder / "models.json"
    boot.write_text(json.dumps({"document": None, "publicKeys": [public_text(KEY)]}))
    flags = ("--boot-file", str(boot), "--owner-uid", UID, *flags)
    addresses = tuple(
        word
        for role in ("inference", "management", "metrics", "grpc-inference")
        for word in (f"--{role}-address", "127.0.0.1:0")
    )
    with serving(folder, *flags, addresses=addresses) as server:
        yield Managed(server, sources)


@pytest.fixture(scope="module")
def runtime(tmp_path_factory):
    with managed(tmp_path_factory.mktemp("split")) as made:
        yield made


# who answers


def test_requests_go_by_weight_and_both_versions_are_told_apart(runtime):
    runtime.wants(("1.0", 0), ("2.0", 25), window="abc.0")
    before = runtime.page()
    said = Counter(runtime.says() for _ in range(200))
    assert said["2.0"] == pytest.approx(50, abs=2)
    assert [it["weight"] for it in runtime.seen()] == [75, 25]
    assert [it["window"]["requests"] for it in runtime.seen()] == [said["1.0"], said["2.0"]]
    page = runtime.page()
    assert (page["flambeau_model_weight", "1.0"], page["flambeau_model_weight", "2.0"]) == (75, 25)
    for version in ("1.0", "2.0"):
        name = "ts_inference_latency_ms_count"
        assert page[name, version] - before.get((name, version), 0) == said[version]


def test_a_caller_keeps_its_version_by_header_and_only_the_needed_move(runtime):
    runtime.wants(("1.0", 0), ("2.0", 10), sticky={"header": "x-user"})
    users = [f"user-{number}" for number in range(200)]
    first = {user: runtime.says(X_User=user) for user in users}
    assert {user: runtime.says(X_User=user) for user in users} == first
    runtime.wants(("1.0", 0), ("2.0", 30), sticky={"header": "x-user"})
    then = {user: runtime.says(X_User=user) for user in users}
    moves = Counter((first[user], then[user]) for user in users if first[user] != then[user])
    assert set(moves) == {("1.0", "2.0")}
    assert moves["1.0", "2.0"] in range(24, 57)  # 20 % of 200, three sigma


def test_a_caller_keeps_its_version_by_cookie(runtime):
    runtime.wants(("1.0", 0), ("2.0", 50), sticky={"cookie": "session"})
    for number in range(10):
        cookie = f"a=b; session=s{number}; c=d"
        assert len({runtime.says(Cookie=cookie) for _ in range(5)}) == 1
    assert len({runtime.says(Cookie=f"session=s{number}") for number in range(20)}) == 2


def test_a_caller_of_grpc_is_known_by_its_metadata_and_is_the_same_one(runtime):
    runtime.wants(("1.0", 0), ("2.0", 50), sticky={"header": "x-user"})
    address = runtime.server.grpc_inference.removeprefix("http://")
    with grpc.insecure_channel(address) as channel:
        client = Client(our_messages(), channel)
        for number in range(10):
            user = (("x-user", f"user-{number}"),)
            fields = {"model_name": "echo", "input": {"data": b"x"}}
            reply = client.call(INFERENCE, "Predictions", user, **fields)
            over_http = runtime.says(X_User=f"user-{number}")
            assert json.loads(reply.prediction)["version"] == over_http


@pytest.mark.parametrize("path", ["/predictions/echo/{}", "/v2/models/echo/versions/{}/infer"])
def test_a_version_in_the_path_is_that_one(runtime, path):
    runtime.wants(("1.0", 0), ("2.0", 50), ("3.0", 0))
    for version in ("1.0", "2.0", "3.0"):
        url = runtime.server.inference + path.format(version)
        said = {
            call("POST", url, b"{}", Content_Type="application/json").json["version"]
            for _ in range(10)
        }
        assert said == {version}


@pytest.mark.parametrize("path", ["/v1/models/echo:predict", "/v2/models/echo/infer"])
def test_the_other_spellings_share_the_weights(runtime, path):
    runtime.wants(("1.0", 0), ("2.0", 50))
    url = runtime.server.inference + path
    said = Counter(
        call("POST", url, b"{}", Content_Type="application/json").json["version"] for _ in range(20)
    )
    assert said["2.0"] in range(9, 12)


def test_a_candidate_whose_worker_is_gone_gets_nothing_and_nobody_notices(runtime):
    runtime.wants(("1.0", 0), ("2.0", 50))
    pid = runtime.server.predict("echo/2.0", b"{}", Content_Type="application/json").json["pid"]
    os.kill(pid, signal.SIGKILL)
    until(lambda: runtime.version("2.0")["weight"] == 0)
    assert {runtime.says() for _ in range(10)} == {"1.0"} or runtime.version("2.0")["weight"] == 50
    until(lambda: runtime.version("2.0")["weight"] == 50)
    assert {runtime.says() for _ in range(10)} == {"1.0", "2.0"}


def test_big_bodies_are_shared_by_weight_too(runtime):
    runtime.wants(("1.0", 0), ("2.0", 50))
    body = os.urandom(1 << 20)
    kind = "application/octet-stream"
    answers = [runtime.server.predict("echo", body, Content_Type=kind).json for _ in range(10)]
    assert {answer["size"] for answer in answers} == {len(body)}
    assert Counter(answer["version"] for answer in answers)["2.0"] in range(4, 7)


# shadows


SHADOW = {"version": "2.0", "tolerances": [{"path": "$.score", "absolute": 0.001}]}


def ask(runtime, wish):
    body = json.dumps({"shadow": wish}).encode()
    began = time.monotonic()
    answer = runtime.server.predict("echo", body, Content_Type="application/json")
    assert answer.status == 200, answer.body
    assert answer.json["score"] == 0.5
    return time.monotonic() - began


def copies(runtime):
    return runtime.version("2.0")["window"]


def test_answers_of_a_shadow_are_compared_within_their_tolerance(runtime):
    runtime.wants(("1.0", 0), ("2.0", 0), shadow=SHADOW, window="s.1")
    for number in range(10):
        ask(runtime, "fine")
        until(lambda asked=number + 1: copies(runtime)["compared"] == asked)
    seen = copies(runtime)
    assert (seen["copies"], seen["copyErrors"], seen["different"]) == (10, 0, 0)
    runtime.wants(("1.0", 0), ("2.0", 0), shadow={"version": "2.0"}, window="s.2")
    ask(runtime, "fine")
    seen = until(lambda: copies(runtime)["compared"] == 1 and copies(runtime))
    assert (seen["different"], seen["difference"]) == (1, "$.score: 0.5001, not 0.5")


def test_a_shadow_that_fails_is_seen_as_such_and_nowhere_else(tmp_path):
    with managed(tmp_path) as runtime:
        runtime.wants(("1.0", 0), ("2.0", 0), shadow=SHADOW, window="s.3", response_s=5)
        before = runtime.page()
        for number in range(20):
            ask(runtime, "raises")
            until(lambda asked=number + 1: copies(runtime)["copies"] == asked)
        seen = copies(runtime)
        assert (seen["copyErrors"], seen["compared"]) == (20, 0)
        assert (seen["requests"], seen["errors"], sum(seen["latency"]["counts"])) == (0, 0, 0)
        assert runtime.version("1.0")["window"]["requests"] == 20
        page = runtime.page()
        assert page["flambeau_shadow_errors_total", "2.0"] == 20
        assert page["flambeau_shadow_copies_total", "2.0"] == 20
        assert page["ts_inference_errors_total", "2.0"] == 0
        assert page["ts_inference_latency_ms_count", "2.0"] == 0
        assert page["ts_inference_latency_ms_count", "1.0"] == 20
        assert page["ts_inference_requests_total", "default"] == 20
        assert ("ts_inference_requests_total", "2.0") not in page
        assert page["Requests5XX", ""] == before["Requests5XX", ""]
        assert page["Requests2XX", ""] - before["Requests2XX", ""] >= 20
        assert page["Seen", ""] == 20
        assert runtime.observed()["saturation"] < 1


def all_seen(runtime, asked, before=0):
    """Whether the shadow has answered, or had no room for, every copy of so many requests."""
    dropped = runtime.page().get(("flambeau_shadow_dropped_total", "2.0"), 0) - before
    return copies(runtime)["copies"] + dropped == asked


def test_a_shadow_that_hangs_delays_nobody_and_is_given_up_by_itself(runtime):
    runtime.wants(("1.0", 0), ("2.0", 0), shadow=SHADOW, window="s.4", response_s=2)
    before = runtime.page()["flambeau_shadow_dropped_total", "2.0"]
    ask(runtime, "fine")
    until(lambda: all_seen(runtime, 1, before))
    waited = sorted(ask(runtime, "hangs") for _ in range(50))
    assert waited[25] < 0.5  # one that waits for the shadow would wait for 2 s
    seen = until(lambda: copies(runtime)["copyErrors"] > 0 and copies(runtime))
    assert (seen["requests"], seen["errors"]) == (0, 0)
    assert runtime.version("1.0")["window"]["errors"] == 0
    runtime.wants(("1.0", 0))
    until(lambda: len(runtime.seen()) == 1)


def test_a_shadow_that_kills_its_workers_kills_no_request(runtime):
    runtime.wants(("1.0", 0), ("2.0", 0), shadow=SHADOW, window="s.5")
    for _ in range(100):
        ask(runtime, "dies")
    until(lambda: copies(runtime)["restarts"] > 0)
    assert runtime.version("1.0")["window"]["errors"] == 0
    assert runtime.version("1.0")["window"]["requests"] == 100
    runtime.wants(("1.0", 0))


def policies(runtime, version):
    """The scheduling policies of all threads of a version's workers."""
    described = runtime.server.manage("GET", f"/models/echo/{version}").json[0]["workers"]
    pids = [worker["pid"] for worker in described if worker["status"] == "READY"]
    threads = (it.name for pid in pids for it in Path(f"/proc/{pid}/task").iterdir())
    return {os.sched_getscheduler(int(it)) for it in threads}


def test_a_shadow_leaves_the_cpu_to_those_that_answer_until_it_answers_itself(runtime):
    runtime.wants(("1.0", 0), ("2.0", 0), shadow=SHADOW, window="s.7")
    until(lambda: policies(runtime, "2.0") == {os.SCHED_BATCH})
    assert policies(runtime, "1.0") == {os.SCHED_OTHER}
    ask(runtime, "dies")
    until(lambda: runtime.version("2.0")["window"]["restarts"] > 0)
    until(lambda: policies(runtime, "2.0") == {os.SCHED_BATCH})
    runtime.wants(("1.0", 0), ("2.0", 10), shadow=SHADOW, window="s.8")
    until(lambda: policies(runtime, "2.0") == {os.SCHED_OTHER})


def test_big_bodies_reach_the_shadow_too(runtime):
    runtime.wants(("1.0", 0), ("2.0", 0), shadow={**SHADOW, "ignore": ["$.version"]}, window="s.6")
    body = os.urandom(1 << 20)
    for _ in range(5):
        answer = runtime.server.predict("echo", body, Content_Type="application/octet-stream")
        assert answer.json == {"version": "1.0", "size": len(body)}
    seen = until(lambda: copies(runtime)["compared"] > 0 and copies(runtime))
    assert (seen["copyErrors"], seen["different"], seen["difference"]) == (0, 0, "")
