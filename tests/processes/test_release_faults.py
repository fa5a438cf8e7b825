"""In each phase of a release, each fault: the same end as undisturbed, and nobody notices."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from tests.load import Answer, Asked, Connection, Load, Question, expect
from tests.processes.release_rig import Archives, Gate, Rig, a_rig, serving_archives, write_archive

pytestmark = [
    pytest.mark.process,
    pytest.mark.slow,
    pytest.mark.timeout(90),
    pytest.mark.asyncio(loop_scope="module"),
]

PHASES = (
    "Fetching",
    "Verifying",
    "Loading",
    "Warming",
    "Canary",
    "Promoting",
    "Draining",
    "RollingBack",
)
REPLICAS = 2
RATE = 60.0


class Release:
    """One release from a version to the next, and what is done to it on its way."""

    def __init__(self, rig: Rig, archives: Archives, old: str, new: str) -> None:
        self.rig, self.archives = rig, archives
        self.old, self.new = old, new
        self.down: tuple[float, float] | None = None  # killed, and seen to be dead
        self.replicas = REPLICAS
        self._helds: list[asyncio.Task[Answer]] = []

    async def play(self, phase: str, fault: str) -> dict[str, Any]:
        """Release, disturb in this phase, go on, and return the state in the end."""
        rig = self.rig
        self.gate = Gate(self.archives.folder, self.new)
        self.held = Gate(self.archives.folder, f"{self.new}-held")
        file = write_archive(self.archives.folder, self.new, self.gate, phase)
        if phase == "Fetching":
            self.archives.gates[file.name] = self.gate
        if phase in {"Promoting", "Draining"}:
            rig.door.hold_after_commit()
        await rig.apply(self.manifest(self.new))
        await self._reach(phase)
        await self._disturb(fault)
        await self._let_go(phase)
        return await self._end(phase)

    def manifest(self, version: str, **annotations: str) -> dict[str, Any]:
        uri = self.archives.uri(self.archives.folder / f"echo-{version}.mar")
        named = {f"serving.flambeau.dev/{key}": value for key, value in annotations.items()}
        return manifest(uri, version, self.replicas, named)

    async def _reach(self, phase: str) -> None:
        rig = self.rig
        if phase in {"Promoting", "Draining"}:
            await rig.until(rig.door.reached.is_set, "the commit")
        if phase == "Draining":
            await self._hold_back(self.old)
            rig.door.release.set()
        if phase == "RollingBack":
            await rig.until(lambda: self._is_in("Canary"), "Canary")
            await self._hold_back(self.new)
            await rig.apply(self.manifest(self.new, abort=rig.model["rollout"]["specHash"]))
        await rig.until(lambda: self._is_in(phase), phase)

    def _is_in(self, phase: str) -> bool:
        return self.rig.model.get("phase") == phase

    async def _hold_back(self, version: str) -> None:
        """Keep a version busy in every pod, so that it takes a while to leave."""
        body = json.dumps({"hold": str(self.held.file)}).encode()
        question = Question(f"/predictions/echo/{version}", body, lambda _: "")
        self._helds += [
            asyncio.create_task(_ask_once(pod.inference_url, question)) for pod in self.rig.pods
        ]
        await self.rig.until(self.held.waiting.exists, f"{version} is busy")

    async def _disturb(self, fault: str) -> None:
        rig = self.rig
        if fault == "the operator is killed":
            await rig.kill_operator()
            rig.start_operator()
        elif fault == "a pod's process is killed":
            pod = rig.pods[0]
            killed_at, restarts = rig.kill(pod), pod.restarts
            await rig.until(lambda: pod.pid is None or pod.restarts > restarts, "it is dead")
            self.down = (killed_at, asyncio.get_running_loop().time())
            await rig.until(lambda: pod.restarts > restarts and pod.ready, "the pod is back")
        elif fault == "a pod is added":
            self.replicas += 1
            await rig.apply(self.manifest(self.new))
            rig.door.release.set()  # pods come by the operator, wherever it is held
            await rig.until(lambda: len(rig.pods) == self.replicas, "the pod is there")

    async def _let_go(self, phase: str) -> None:
        if phase in {"Promoting", "Draining"}:
            self.rig.door.release.set()
        self.gate.open()
        self.held.open()
        await asyncio.gather(*self._helds, return_exceptions=True)

    async def _end(self, phase: str) -> dict[str, Any]:
        rig, back = self.rig, phase == "RollingBack"
        goal = ("RolledBack", "Stalled") if back else ("Serving", "RolledOut")
        await rig.until(lambda: self.is_at(*goal), f"{goal[0]} of {self.new}, after {phase}")
        return await self._state()

    def is_at(self, phase: str, condition: str) -> bool:
        rig, status = self.rig, self.rig.status
        met = {each["type"] for each in status.get("conditions", ()) if each["status"] == "True"}
        everywhere = status.get("readyReplicas") == self.replicas == len(rig.pods)
        return self._is_in(phase) and condition in met and everywhere

    async def _state(self) -> dict[str, Any]:
        """Return all that must not depend on what happened on the way."""
        status, model = self.rig.status, self.rig.model
        states = await self.rig.states()
        told = {
            "conditions": {c["type"]: (c["status"], c["reason"]) for c in status["conditions"]},
            "model": {key: model.get(key) for key in ("phase", "activeVersion", "weight")},
            "failure": model["rollout"].get("lastFailure", {}).get("reason"),
            "step": model["rollout"].get("step"),
            "history": [model["history"][0]["version"], model["history"][0]["outcome"]],
            "wanted": sorted(
                {repr(state.desired and state.desired.models) for state in states.values()}
            ),
            "defaults": sorted({str(state.models[0].default) for state in states.values()}),
            "versions": sorted({v.version for s in states.values() for v in s.models[0].versions}),
        }
        words = json.dumps(told).replace(self.new, "NEW").replace(self.old, "OLD")
        return dict(json.loads(words))


async def _ask_once(url: str, question: Question) -> Answer:
    connection = Connection(url)
    try:
        return await connection.ask(question)
    finally:
        connection.close()


def manifest(uri: str, version: str, replicas: int, annotations: dict[str, str]) -> dict[str, Any]:
    model = {
        "name": "echo",
        "version": version,
        "source": {"uri": uri},
        "timeouts": {"startup": "60s"},
        "warmup": {"requests": [{"body": '{"warm": true}'}]},
    }
    analysis = {"minRequests": 20, "failOn": {"errorRate": {"max": "20%"}}}
    steps = [{"weight": 50, "pause": "1s"}, {"weight": 100}]
    return {
        "apiVersion": "serving.flambeau.dev/v1alpha1",
        "kind": "ModelDeployment",
        "metadata": {"name": "echo", "annotations": annotations},
        "spec": {
            "replicas": replicas,
            "models": [model],
            "rollout": {"hot": {"mode": "SideBySide", "steps": steps, "analysis": analysis}},
            "disruption": {"drainDelay": "100ms"},
        },
    }


def asked(_: int) -> Question:
    def version_of(answer: Answer) -> str:
        expect(answer.status == 200, f"{answer.status} {answer.body[:200]!r}")
        return str(json.loads(answer.body)["version"])

    return Question("/predictions/echo", b"{}", version_of)


class Stage:
    """What all cases of the matrix share: one fleet, under load from the first case to the last."""

    def __init__(self, rig: Rig, archives: Archives, load: Load) -> None:
        self.rig, self.archives, self.load = rig, archives, load
        self.number = 1
        self.undisturbed: dict[str, dict[str, Any]] = {}

    async def play(self, phase: str, fault: str) -> tuple[dict[str, Any], list[Asked]]:
        """Play one release; returns the state in the end, and the requests that were harmed."""
        self.number += 1
        before = len(self.load.asked)
        serving = self.rig.model["activeVersion"]
        release = Release(self.rig, self.archives, serving, f"v{self.number:02}")
        end = await release.play(phase, fault)
        await self._clear(release, phase)
        await self.load.more(10)
        harmed = [each for each in self.load.asked[before:] if each.failure]
        if release.down is not None:  # what that process had, and got until it was seen dead
            killed_at, seen_at = release.down
            harmed = [it for it in harmed if it.sent_at > seen_at or it.done_at < killed_at]
        return end, harmed

    async def _clear(self, release: Release, phase: str) -> None:
        """Come to rest with two pods on one version."""
        kept = release.old if phase == "RollingBack" else release.new
        release.replicas = REPLICAS
        await self.rig.apply(release.manifest(kept))
        await self.rig.until(lambda: release.is_at("Serving", "RolledOut"), f"rest at {kept}")


@contextlib.asynccontextmanager
async def a_stage(folder: Path) -> AsyncIterator[Stage]:
    archives = folder / "archives"
    archives.mkdir()
    write_archive(archives, "v01", Gate(archives, "v01"))
    with serving_archives(archives) as server:
        async with a_rig(folder) as rig:
            first = Release(rig, server, "", "v01")
            await rig.apply(first.manifest("v01"))
            await rig.until(lambda: first.is_at("Serving", "RolledOut"), "v01 serves", 90)
            async with Load(rig.url, asked, rate=RATE) as load:
                yield Stage(rig, server, load)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stage(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stage]:
    """Run the stage in a task of its own: task groups end in the task that began them."""
    ready: asyncio.Future[Stage] = asyncio.get_running_loop().create_future()
    over = asyncio.Event()

    async def run() -> None:
        async with a_stage(tmp_path_factory.mktemp("releases")) as made:
            ready.set_result(made)
            await over.wait()

    running = asyncio.create_task(run())
    await asyncio.wait({running, ready}, return_when=asyncio.FIRST_COMPLETED)
    if running.done():
        running.result()
    yield ready.result()
    over.set()
    await running


@pytest.mark.parametrize("phase", PHASES)
@pytest.mark.parametrize(
    "fault", ["the operator is killed", "a pod's process is killed", "a pod is added"]
)
async def test_a_fault_in_a_phase_changes_nothing_in_the_end(stage: Stage, phase: str, fault: str):
    if phase not in stage.undisturbed:
        stage.undisturbed[phase], harmed = await stage.play(phase, "nothing")
        assert harmed == []
    end, harmed = await stage.play(phase, fault)
    assert harmed == []
    assert end == stage.undisturbed[phase]
