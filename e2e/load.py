"""Clients in a pod: the load on what runs in a cluster comes from where its users are.

The program is `stock` (cluster/hyperkube/stock): it asks at a steady rate, whether or not earlier
requests have been answered, and counts whatever is not a 200 with the expected text as failed.
Nothing is retried. Half of the requests open a connection of their own.
"""

import base64
import contextlib
import json
import secrets
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from e2e.cluster import stock
from e2e.cluster.access import Cluster
from e2e.cluster.faults import ClusterFault, NotReady

BODY = "/question/body"
DOOR = 9080
HERE = f"http://127.0.0.1:{DOOR}"


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked.

    Args:
        url: where, as a pod of the namespace names it.
        body: sent by POST; without one it is a GET.
        content_type: of the body.
        expect: text that every right answer has.
        word: expression for what tells answers apart; its first group, or all of it, is counted.
    """

    url: str
    body: bytes = b""
    content_type: str = "application/json"
    expect: str = ""
    word: str = ""


@dataclass(frozen=True, slots=True)
class Pace:
    """How it is asked.

    Args:
        rate: requests per second.
        fresh: which part of them opens a connection of its own.
        in_flight: how many may wait for their answers; more are not sent, and counted so.
        timeout_s: how long an answer may take.
    """

    rate: float = 50.0
    fresh: float = 0.5
    in_flight: int = 256
    timeout_s: float = 30.0


@dataclass(frozen=True, slots=True, repr=False)
class Summary:
    """How it went.

    `failures` holds the first ten, each with its time and reason; `words` how often each word was
    found in a right answer.
    """

    seconds: float
    sent: int
    answered: int
    failed: int
    unsent: int
    in_flight: int
    p50_ms: float
    p99_ms: float
    max_ms: float
    words: Mapping[str, int]
    failures: list[Mapping[str, object]]

    def __repr__(self) -> str:
        """Say it as briefly as pytest wants it of a message that it does not cut."""
        said = f"{self.failed} of {self.sent} failed, {self.unsent} unsent, in {self.seconds} s"
        first = "".join(f"; at {it['second']} s {it['reason']}" for it in self.failures[:1])
        return f"{said}, p99 {self.p99_ms} ms{first}"

    @classmethod
    def read(cls, line: str) -> "Summary":
        """Read what the program prints."""
        told = json.loads(line)
        told["in_flight"] = told.pop("inFlight")
        return cls(**{name.replace("Ms", "_ms"): value for name, value in told.items()})


@dataclass(slots=True)
class LoadPod:
    """A pod that asks for as long as the block of `load` lasts."""

    cluster: Cluster
    namespace: str
    name: str
    _summary: Summary | None = field(default=None, init=False)

    @property
    def summary(self) -> Summary:
        """How all of it went; there is none before the end of the block."""
        if self._summary is None:
            raise ClusterFault(f"pod {self.name} still asks: so_far() tells how it goes")
        return self._summary

    def so_far(self) -> Summary:
        """Ask the pod how it went until now."""
        return Summary.read(self._kubectl("exec", self.name, "--", "/stock", "get", HERE))

    def more(self, answers: int, within_s: float = 60) -> Summary:
        """Return when so many more requests have been answered well."""
        goal = self.so_far().answered + answers
        deadline = time.monotonic() + within_s
        while True:
            now = self.so_far()
            if now.answered >= goal:
                return now
            if time.monotonic() > deadline:
                raise NotReady(f"{answers} more answers", within_s, str(now))
            time.sleep(0.2)

    def end(self) -> Summary:
        """Have it send nothing more, wait for what is on its way, and return how it went."""
        end = ["/stock", "get", "-method=POST", f"{HERE}/end"]
        # The pod's end ends what was executed in it, maybe before that is through: whether it was
        # heard shows in the phase.
        with contextlib.suppress(ClusterFault):
            self._kubectl("exec", self.name, "--", *end)
        _await_phase(self.cluster, self.namespace, self.name)
        last = self._kubectl("logs", self.name, "--tail=1")
        self._summary = Summary.read(last)
        return self._summary

    def _kubectl(self, *words: str) -> str:
        return self.cluster.run("-n", self.namespace, *words)


@contextlib.contextmanager
def load(
    cluster: Cluster,
    namespace: str,
    question: Question,
    pace: Pace | None = None,
    node: str | None = None,
    within_s: float = 60,
) -> Iterator[LoadPod]:
    """Have a pod ask from before the block begins until after it ends.

    What is counted begins with the first right answer; the block begins after that.

    Args:
        cluster: where.
        namespace: the pod's.
        question: what it asks.
        pace: how it asks.
        node: the name of the node that it shall run on.
        within_s: how long the first right answer may take.
    """
    name = f"load-{secrets.token_hex(3)}"
    pod = LoadPod(cluster, namespace, name)
    words = _load_words(question, pace or Pace(), within_s)
    with _created(cluster, namespace, _pod(name, words, question.body, node)):
        _await(f"pod {name} asks", lambda: _begun(pod), within_s + 30)
        yield pod
        pod.end()


def ask(cluster: Cluster, namespace: str, question: Question, timeout_s: float = 30) -> str:
    """Ask once, from a pod of its own, and return the answer.

    Raises:
        ClusterFault: with the answer and its status if that is not 2xx, or with why none came.
    """
    name = f"ask-{secrets.token_hex(3)}"
    words = ["get", *_question_words(question), f"-timeout={timeout_s}s", question.url]
    with _created(cluster, namespace, _pod(name, words, question.body, None)):
        phase = _await_phase(cluster, namespace, name, timeout_s + 30)
        said = cluster.run("-n", namespace, "logs", name)
    if phase == "Failed":
        raise ClusterFault(f"asked {question.url} from a pod: {said}")
    return said


def _question_words(question: Question) -> list[str]:
    if not question.body:
        return []
    return [f"-body=@{BODY}", f"-content-type={question.content_type}"]


def _load_words(question: Question, pace: Pace, await_s: float) -> list[str]:
    return [
        "load",
        *_question_words(question),
        f"-expect={question.expect}",
        f"-word={question.word}",
        f"-rate={pace.rate}",
        f"-fresh={pace.fresh}",
        f"-in-flight={pace.in_flight}",
        f"-timeout={pace.timeout_s}s",
        f"-await={await_s}s",
        f"-listen=:{DOOR}",
        question.url,
    ]


def _pod(name: str, words: list[str], body: bytes, node: str | None) -> list[dict[str, Any]]:
    container = {
        "name": "stock",
        "image": stock.STOCK,
        "imagePullPolicy": "IfNotPresent",
        "args": words,
        "securityContext": stock.RESTRICTED,
        "volumeMounts": [{"name": "question", "mountPath": "/question"}],
    }
    spec = {
        "containers": [container],
        "volumes": [{"name": "question", "configMap": {"name": name}}],
        "restartPolicy": "Never",
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        # When it is deleted, what is on its way may still be answered.
        "terminationGracePeriodSeconds": 30,
    }
    if node is not None:
        spec["nodeSelector"] = {"kubernetes.io/hostname": node}
    labels = {"app.kubernetes.io/component": "test-client"}
    return [
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": name},
            "binaryData": {"body": base64.b64encode(body).decode()},
        },
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": name, "labels": labels},
            "spec": spec,
        },
    ]


@contextlib.contextmanager
def _created(cluster: Cluster, namespace: str, objects: list[dict[str, Any]]) -> Iterator[None]:
    given = json.dumps({"apiVersion": "v1", "kind": "List", "items": objects})
    cluster.run("-n", namespace, "create", "-f", "-", given=given)
    try:
        yield
    finally:
        at_once = ["--now", "--wait=false", "--ignore-not-found"]
        cluster.run("-n", namespace, "delete", "-f", "-", *at_once, given=given)


def _begun(pod: LoadPod) -> bool:
    phase = _phase(pod.cluster, pod.namespace, pod.name)
    if phase in {"Succeeded", "Failed"}:
        told = pod.cluster.run("-n", pod.namespace, "logs", pod.name, "--tail=5")
        raise ClusterFault(f"pod {pod.name} does not ask: {told}")
    if phase != "Running":
        return False
    try:
        return pod.so_far().answered > 0
    except ClusterFault:
        return False  # it runs, and its door is not open yet


def _phase(cluster: Cluster, namespace: str, name: str) -> str:
    return cluster.run("-n", namespace, "get", "pod", name, "-o", "jsonpath={.status.phase}")


def _await_phase(cluster: Cluster, namespace: str, name: str, within_s: float = 60) -> str:
    """Return how a pod ended."""
    over = {"Succeeded", "Failed"}
    _await(f"pod {name} has ended", lambda: _phase(cluster, namespace, name) in over, within_s)
    return _phase(cluster, namespace, name)


def _await(what: str, true: Callable[[], bool], within_s: float) -> None:
    deadline = time.monotonic() + within_s
    while not true():
        if time.monotonic() > deadline:
            raise NotReady(what, within_s)
        time.sleep(0.1)
