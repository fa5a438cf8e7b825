"""The clients that later tests believe: they count every failure, and ask nothing twice."""

import http.server
import json
import subprocess
import threading
from collections import Counter

import pytest

from e2e.cluster import hyperkube, stock
from e2e.cluster.faults import ClusterFault
from e2e.load import Pace, Question, Summary, ask, load
from e2e.waiting import until

# The first run on a machine builds Kubernetes.
pytestmark = pytest.mark.timeout(1800)


class Server(http.server.ThreadingHTTPServer):
    """Answers a path as the path says, and counts requests and connections."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Answering)
        self.requests = Counter()
        self.counting = threading.Lock()
        self.connections = 0

    def process_request(self, request, client_address):
        self.connections += 1
        super().process_request(request, client_address)


class Answering(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = 10

    def do_POST(self):
        with self.server.counting:
            self.server.requests[self.path] += 1
        sent = self.rfile.read(int(self.headers["content-length"]))
        ANSWERS[self.path](self, sent)

    def say(self, status, body, length=None):
        self.send_response(status)
        self.send_header("content-length", str(len(body) if length is None else length))
        self.end_headers()
        self.wfile.write(body)

    def hang_up(self, _):
        self.close_connection = True

    def break_off(self, sent):
        self.say(200, sent, length=1000)
        self.close_connection = True

    def keep_silent(self, _):
        self.rfile.read(1)
        self.close_connection = True

    def log_message(self, *_):
        pass


ANSWERS = {
    "/right": lambda handler, sent: handler.say(200, b"version 2.0 says " + sent),
    "/busy": lambda handler, _: handler.say(503, b"try later"),
    "/created": lambda handler, sent: handler.say(201, sent),
    "/wrong": lambda handler, _: handler.say(200, b"something else"),
    "/hang-up": Answering.hang_up,
    "/break-off": Answering.break_off,
    "/silent": Answering.keep_silent,
}


@pytest.fixture
def server():
    with Server() as server:
        threading.Thread(target=server.serve_forever).start()
        yield server
        server.shutdown()


def test_right_answers_are_no_failures_and_are_told_apart(server):
    summary = _load(server, "/right", "-word=version ([0-9.]+)", "-expect=says {}")
    assert summary.failed == summary.unsent == summary.in_flight == 0
    assert summary.sent == summary.answered == server.requests["/right"]
    assert summary.words == {"2.0": summary.answered}
    assert 0 < summary.p50_ms <= summary.p99_ms <= summary.max_ms


def test_half_of_the_requests_open_a_connection_of_their_own(server):
    summary = _load(server, "/right", "-for=2s")
    fresh = summary.sent // 2
    # The others share one, or few where an answer was late.
    assert fresh + 1 <= server.connections < fresh + summary.sent // 4


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("/busy", "503 Service Unavailable: try later"),
        ("/created", "201 Created"),
        ("/wrong", '200 OK without "says {}": something else'),
        ("/hang-up", "EOF"),
        ("/break-off", "its body broke off"),
        ("/silent", "exceeded"),
    ],
)
def test_every_other_answer_is_a_failure_and_nothing_is_asked_twice(server, path, reason):
    summary = _load(server, path, "-expect=says {}", "-timeout=3s")
    assert summary.failed == summary.sent
    assert 10 <= server.requests[path] <= summary.sent  # fewer where one never came so far
    assert summary.answered == 0
    assert len(summary.failures) == 10
    assert all(reason in failure["reason"] for failure in summary.failures)


def test_what_finds_no_room_is_told_and_not_counted_as_sent(server):
    summary = _load(server, "/silent", "-in-flight=2", "-timeout=10s", "-for=300ms")
    assert summary.sent == summary.failed == 2
    assert summary.unsent > 0


def test_nothing_is_counted_before_the_first_right_answer_and_none_is_an_error(server):
    done = _run(server, "/busy", "-await=200ms")
    assert done.returncode == 1
    assert "no right answer within 200ms" in done.stderr
    assert "503" in done.stderr


def test_a_pod_asks_through_a_service_until_it_is_told_to_end(cluster, fresh_name):
    url = _serve(cluster, fresh_name, "-linger=5s")
    with load(cluster, fresh_name, Question(url, word=r"^(\S+) answers")) as clients:
        seen = clients.more(50)
        assert seen.failed == 0
        with pytest.raises(ClusterFault, match="still asks"):
            _ = clients.summary
        cluster.run("-n", fresh_name, "rollout", "restart", "deployment/web")
        cluster.run("-n", fresh_name, "rollout", "status", "deployment/web", "--timeout=60s")
        clients.more(50)
    summary = clients.summary
    assert summary.failed == summary.unsent == 0, summary
    assert summary.answered == summary.sent > 100
    assert len(summary.words) == 4  # two pods before, two after


def test_a_server_that_ends_abruptly_costs_requests_and_they_are_seen(cluster, fresh_name):
    url = _serve(cluster, fresh_name)
    with load(cluster, fresh_name, Question(url), Pace(rate=100)) as clients:
        cluster.run("-n", fresh_name, "scale", "deployment/web", "--replicas=0")
        cluster.run("-n", fresh_name, "wait", "pods", "-l=app=web", "--for=delete")
    assert clients.summary.failed > 0
    assert clients.summary.failures[0]["reason"]


def test_one_question_is_asked_from_a_pod_of_its_own(cluster, fresh_name):
    url = _serve(cluster, fresh_name)
    question = Question(f"{url}once", body=b"\x00\xff", content_type="application/octet-stream")
    # The pods are ready some moments before every node knows the way to them.
    answer = until("a Service's rules are written", lambda: ask(cluster, fresh_name, question))
    assert answer.endswith("answers /once\n")
    with pytest.raises(ClusterFault, match="connection refused"):
        ask(cluster, fresh_name, Question("http://127.0.0.1:1/"))


def _serve(cluster, namespace, *flags):
    """Serve from two pods in a namespace that admits restricted ones only; return where."""
    level = {"pod-security.kubernetes.io/enforce": "restricted"}
    labels = {"app": "web"}
    container = {
        "name": "web",
        "image": stock.STOCK,
        "args": ["serve", *flags, ":8080"],
        "securityContext": stock.RESTRICTED,
        "readinessProbe": {"httpGet": {"path": "/", "port": 8080}, "periodSeconds": 1},
    }
    template = {"metadata": {"labels": labels}, "spec": {"containers": [container]}}
    deployment = {"replicas": 2, "selector": {"matchLabels": labels}, "template": template}
    service = {"selector": labels, "ports": [{"port": 80, "targetPort": 8080}]}
    here = {"name": "web", "namespace": namespace}
    objects = [
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace, "labels": level}},
        {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": here, "spec": deployment},
        {"apiVersion": "v1", "kind": "Service", "metadata": here, "spec": service},
    ]
    given = json.dumps({"apiVersion": "v1", "kind": "List", "items": objects})
    cluster.run("apply", "-f", "-", given=given)
    available = ["deployment/web", "--for=condition=Available", "--timeout=60s"]
    cluster.run("-n", namespace, "wait", *available)
    return "http://web/"


def _run(server, path, *flags):
    binary = hyperkube.built(print) / stock.PROGRAM
    url = f"http://127.0.0.1:{server.server_port}{path}"
    argv = [binary, "load", "-for=600ms", "-rate=50", "-body={}", *flags, url]
    return subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)


def _load(server, path, *flags):
    done = _run(server, path, *flags)
    assert done.returncode == 0, done.stderr
    return Summary.read(done.stdout.splitlines()[-1])
