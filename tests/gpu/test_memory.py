"""What is told of the device's memory, and what follows where it is short."""

from __future__ import annotations

import json

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from flambeau_operator.plan.fleet import Fleet, Reporter
from flambeau_operator.plan.swap_mode import choose_mode
from flambeau_operator.resources.observed import PodFacts
from flambeau_operator.resources.pod_state import SourceEntry, VersionEntry
from flambeau_operator.resources.pod_state_json import pod_state_from_json
from tests.compat.server import serving, until, write_archive
from tests.dataplane.signing import bearer, public_text
from tests.gpu.facts import MEBI, device_free

pytestmark = [pytest.mark.gpu, pytest.mark.process, pytest.mark.timeout(240)]

KEY = Ed25519PrivateKey.generate()
OWNER = {"namespace": "team-a", "name": "vision", "uid": "uid-1"}
HOLDS = """
import torch
class Handler:
    def initialize(self, context):
        self.held = torch.empty({bytes}, dtype=torch.uint8, device="cuda")
    def handle(self, data, context):
        return [context.manifest["model"]["modelVersion"] for _ in data]
"""


class Pod:
    """A managed runtime that serves `big`, and its operator."""

    def __init__(self, folder):
        self.folder, self.server, self.sequence = folder, None, 1

    def archive(self, version, size):
        write_archive(self.folder / "store", "big", version, HOLDS.format(bytes=size))

    def document(self, *versions, workers=1, **model):
        wanted = [
            {
                "version": it,
                "source": {"uri": (self.folder / "store" / f"big-{it}.mar").as_uri()},
                "workers": {"min": workers},
            }
            for it in versions
        ]
        entry = {"name": "big", "default": versions[0], "versions": wanted, **model}
        head = {"owner": OWNER, "sequence": self.sequence, "generation": 1}
        return {**head, "models": [entry]}

    def put(self, *versions, **model):
        self.sequence += 1
        body = json.dumps(self.document(*versions, **model)).encode()
        answer = self.server.manage("PUT", "/state", body, Authorization=bearer(KEY, body))
        assert answer.status == 202, answer.json

    def state(self):
        answer = self.server.manage("GET", "/state", Authorization=bearer(KEY))
        assert answer.status == 200, answer.json
        return answer.json

    def version(self, number):
        [model] = self.state()["observed"]["models"]
        return next((it for it in model["versions"] if it["version"] == number), None)

    def is_ready(self):
        return self.server.manage("GET", "/ready").status == 200


@pytest.fixture
def pod(tmp_path, request):
    """Serves version 1.0, whose worker holds a part of what was free on the device."""
    made = Pod(tmp_path)
    made.free_at_first = device_free()
    made.archive("1.0", int(getattr(request, "param", 0.05) * made.free_at_first))
    boot = tmp_path / "models.json"
    boot.write_text(
        json.dumps({"document": made.document("1.0"), "publicKeys": [public_text(KEY)]})
    )
    flags = ("--boot-file", str(boot), "--owner-uid", OWNER["uid"], "--swap-delay", "0.2")
    with serving(tmp_path, *flags, torch=True) as made.server:
        until(made.is_ready, 120)
        yield made


def choice(pod, wished="Auto", workers=1, pods=2):
    """What the operator makes of what this pod reports."""
    body = pod.state()
    candidate, active = (
        VersionEntry(it, SourceEntry(""), workers=workers) for it in ("2.0", "1.0")
    )
    facts = tuple(PodFacts(f"pod-{it}", "u", "o", "h") for it in range(pods))
    reporter = Reporter(facts[0], pod_state_from_json(body), None)
    fleet = Fleet(facts, facts, (reporter,), (), (), ())
    return choose_mode(wished, candidate, active, "big", fleet)


def test_what_workers_hold_on_the_device_is_measured_for_each(pod):
    size = int(0.05 * pod.free_at_first)
    held = pod.version("1.0")["memory"]
    left = pod.state()["observed"]["memory"]["deviceAvailableBytes"]
    print(  # noqa: T201  a fact for docs/gpus.md
        f"FACT a worker with {size / MEBI:.0f} MiB of tensors: deviceBytes "
        f"{held['deviceBytes'] / MEBI:.0f} MiB, workerBytes {held['workerBytes'] / MEBI:.0f} MiB"
    )
    assert size < held["deviceBytes"] < size + 2048 * MEBI
    assert left == pytest.approx(device_free(), abs=64 * MEBI)
    assert left + held["deviceBytes"] == pytest.approx(pod.free_at_first, abs=1024 * MEBI)
    pod.put("1.0", workers=2)
    until(lambda: pod.version("1.0")["workers"]["ready"] == 2, 120)
    until(
        lambda: abs(pod.version("1.0")["memory"]["deviceBytes"] - held["deviceBytes"]) < 256 * MEBI
    )


def test_a_version_that_takes_more_than_the_device_has_fails_as_out_of_memory(pod):
    pod.archive("2.0", 4 * pod.free_at_first)
    pod.put("1.0", "2.0")
    failure = until(lambda: pod.version("2.0")["lastFailure"], 120)
    assert failure["reason"] == "OutOfMemory"
    assert "CUDA out of memory" in failure["message"]
    assert pod.is_ready()
    assert pod.server.predict("big").body == b"1.0"


def test_with_room_for_both_two_versions_are_side_by_side(pod):
    assert choice(pod).mode == "SideBySide"
    pod.archive("2.0", int(0.05 * pod.free_at_first))
    pod.put("1.0", "2.0")
    until(lambda: pod.version("2.0")["phase"] == "Ready", 120)


@pytest.mark.parametrize("pod", [0.55], indirect=True, ids=["more than half of the device"])
def test_without_room_for_both_the_operator_chooses_another_way_and_the_pod_refuses(pod):
    chosen = choice(pod)
    assert chosen.mode == "Recreate"
    assert "of the accelerator in pod-0 are free" in chosen.why
    print(f"FACT {chosen.mode}: {chosen.why}")  # noqa: T201  a fact for docs/gpus.md
    alone = choice(pod, pods=1)
    assert (alone.mode, alone.blocked) == (None, "InsufficientMemory")
    insisted = choice(pod, wished="SideBySide")
    assert insisted.blocked == "InsufficientAcceleratorMemory"
    pod.archive("2.0", int(0.55 * pod.free_at_first))
    pod.put("1.0", "2.0")
    failure = until(lambda: pod.version("2.0")["lastFailure"], 120)
    assert failure["reason"] == "InsufficientMemory"
    assert "memory on the device" in failure["message"]
    pod.put("2.0", swap="Recreate")
    until(lambda: (seen := pod.version("2.0")) and seen["phase"] == "Ready", 120)
    assert pod.server.predict("big").body == b"2.0"
