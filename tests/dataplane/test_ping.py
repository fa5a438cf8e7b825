"""When `/ping` says Healthy, as probes understand it."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from flambeau_runtime.api.inference import is_healthy, make_inference_app
from flambeau_runtime.serving.desired import Document, ModelSpec, Source, VersionSpec
from flambeau_runtime.serving.observed import WorkerCounts


@dataclass
class Live:
    """A version that is there, with these workers."""

    workers: WorkerCounts

    def counts(self):
        return self.workers


class Versions:
    """The part of a catalogue that a ping looks at: versions of model m, the first its default."""

    def __init__(self, failing=(), **workers):
        self.failing = failing
        versions = tuple(VersionSpec("m", name, Source("m.mar")) for name in workers)
        first = next(iter(workers), None)
        self.wanted = Document((ModelSpec("m", first, versions),) if workers else ())
        self.lives = {name: Live(counts) for name, counts in workers.items() if counts}

    def default_of(self, _name):
        return self.wanted.models[0].default

    def is_failing(self, _name, version):
        return version in self.failing

    def live(self, _name, version):
        return self.lives.get(version)


SERVES = WorkerCounts(wanted=1, ready=1)


@pytest.mark.parametrize(
    ("versions", "healthy"),
    [
        pytest.param({}, True, id="nothing is asked for"),
        pytest.param({"v1": SERVES}, True, id="every worker serves"),
        pytest.param({"v1": WorkerCounts(wanted=1, starting=1)}, True, id="workers are coming"),
        pytest.param({"v1": None}, True, id="a model is on its way"),
        pytest.param(
            {"v1": None, "failing": ["v1"]}, False, id="it is tried again after it failed"
        ),
        pytest.param({"v1": WorkerCounts()}, True, id="no worker is asked for"),
        pytest.param({"v1": WorkerCounts(wanted=1, failed=1)}, False, id="a worker was given up"),
        pytest.param(
            {"v1": WorkerCounts(wanted=2, ready=1, failed=1)},
            False,
            id="one of two workers was given up",
        ),
        pytest.param(
            {"v1": SERVES, "v2": WorkerCounts(wanted=1, failed=1)},
            True,
            id="only the default version counts",
        ),
    ],
)
def test_healthy(versions, healthy):
    assert is_healthy(Versions(**versions)) is healthy


async def answer_of(app, method, path):
    sent = []

    async def send(message):
        sent.append(message)

    await app({"type": "http", "method": method, "path": path, "headers": []}, None, send)
    return sent[0]["status"], sent[1]["body"], dict(sent[0]["headers"])


async def test_a_sick_runtime_answers_500_as_torchserve_does():
    app = make_inference_app(Versions(v1=WorkerCounts(wanted=1, failed=1)))
    status, body, headers = await answer_of(app, "GET", "/ping")
    assert (status, body) == (500, b'{\n  "status": "Unhealthy"\n}\n')
    assert headers[b"connection"] == b"close"
