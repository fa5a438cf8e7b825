"""Local mode with real processes: what a user sees who starts, edits, kills and stops it."""

import asyncio
import contextlib
import itertools
import json
import os
import random
import signal
import socket
import sys
from pathlib import Path
from urllib.parse import urlsplit

import psutil
import pytest

from flambeau_operator.doors import Key
from flambeau_operator.errors import InvalidSpec, PortInUse, StateDirInUse
from flambeau_operator.session import LocalSession
from tests.load import Connection, Load, Question, expect

pytestmark = [pytest.mark.process, pytest.mark.timeout(90)]

TESTS = Path(__file__).parents[1]
STANDIN = (sys.executable, str(TESTS / "standin_runtime.py"))
KEY = Key("default", "vision")


def manifest(version="1.0", replicas=2, config=None, env=None, **disruption):
    model = {
        "name": "m",
        "version": version,
        "source": {"uri": f"file:///models/m-{version}.mar"},
        "timeouts": {"response": "1s"},
        "handler": {"env": env or {}},
    }
    return {
        "apiVersion": "serving.flambeau.dev/v1alpha1",
        "kind": "ModelDeployment",
        "metadata": {"name": "vision"},
        "spec": {
            "replicas": replicas,
            "models": [model],
            "runtime": {"config": config or {}},
            "disruption": {"drainDelay": "2s", "terminationGracePeriod": "10s", **disruption},
        },
    }


@contextlib.asynccontextmanager
async def session_of(*manifests, state_dir=None, command=STANDIN, port=0):
    async with LocalSession(state_dir, base_port=port, command=command) as session:
        for each in manifests:
            await session.apply(each)
        if manifests:
            await until(session, rolled_out)
        yield session


async def until(session, condition, within_s=30):
    """Return the first deployment once it is as the condition says."""
    async with asyncio.timeout(within_s):
        while True:
            deployment = session.observe()[0]
            if condition(deployment):
                return deployment
            await session.wait_change()


def condition(deployment, kind):
    found = [each for each in deployment.status.get("conditions", ()) if each["type"] == kind]
    return found[0]["status"] if found else None


def rolled_out(deployment):
    status = deployment.status
    return (
        status.get("observedGeneration") == deployment.generation
        and condition(deployment, "RolledOut") == "True"
        and {pod.phase for pod in deployment.pods} <= {"Ready"}
        and len(deployment.pods) == status["replicas"]
    )


def pids(deployment):
    return {pod.name: pod.pid for pod in deployment.pods}


def predict(number):
    del number

    def check(answer):
        expect(answer.status == 200, f"{answer.status}: {answer.body[:200]!r}")
        return json.loads(answer.body)["version"]

    return Question("/predictions/m", b"{}", check)


async def ask(url, path="/predictions/m"):
    connection = Connection(url)
    answer = await connection.ask(Question(path, b"", lambda _: ""), last=True)
    return answer.status, json.loads(answer.body)


async def gone(pid):
    async with asyncio.timeout(15):
        while psutil.pid_exists(pid):  # noqa: ASYNC110  it is not our child
            await asyncio.sleep(0.02)


async def not_ready(url):
    while True:
        if (await ask(url, "/ready"))[0] == 503:
            return
        await asyncio.sleep(0.01)


def free_port():
    """Return a port that is free, as is the next one; below those the kernel gives away itself."""
    while True:
        port = random.randrange(20_000, 32_000)  # noqa: S311  no secret
        try:
            for number in (port, port + 1):
                with socket.create_server(("127.0.0.1", number)):
                    pass
        except OSError:
            continue
        return port


async def test_pods_are_told_the_memory_that_they_may_use(tmp_path):
    body = manifest(replicas=1)
    body["spec"]["resources"] = {"limits": {"memory": "3Gi", "cpu": "1"}}
    async with session_of(body, state_dir=tmp_path) as session:
        (pid,) = pids(session.observe()[0]).values()
        environment = psutil.Process(pid).environ()
        assert environment["FLAMBEAU_MEMORY_LIMIT"] == str(3 * 1024**3)
        assert environment["PATH"] == os.environ["PATH"]


async def test_what_a_machine_cannot_honour_is_named_and_the_rest_is_served():
    body = manifest(replicas=1)
    body["spec"]["resources"] = {"limits": {"nvidia.com/gpu": 1}}
    async with session_of(body) as session:
        deployment = session.observe()[0]
    (said,) = [c for c in deployment.status["conditions"] if c["type"] == "Unsupported"]
    assert said["message"].startswith("spec.resources.limits has no effect in local mode")
    assert condition(deployment, "Ready") == "True"


async def test_an_annotation_keeps_pods_as_they_are():
    async with session_of(manifest(replicas=1)) as session:
        before = pids(session.observe()[0])
        body = manifest(replicas=2)
        body["metadata"]["annotations"] = {"serving.flambeau.dev/reconcile": "disabled"}
        await session.apply(body)
        stalled = await until(session, lambda each: condition(each, "Stalled") == "True")
        assert condition(stalled, "ReconcileDisabled") == "True"
        assert pids(stalled) == before
        await session.apply(manifest(replicas=2))
        after = await until(session, rolled_out)
    assert len(after.pods) == 2
    assert before.items() <= pids(after).items()


async def test_replicas_are_processes_behind_one_address():
    async with session_of(manifest(replicas=3)) as session:
        deployment = session.observe()[0]
        answers = [await ask(deployment.url) for _ in range(6)]
    assert {body["pid"] for _, body in answers} == set(pids(deployment).values())
    assert deployment.status["url"] == deployment.url
    assert (deployment.status["replicas"], deployment.status["readyReplicas"]) == (3, 3)


async def test_a_new_version_arrives_in_the_same_processes_without_a_failed_request():
    async with session_of(manifest()) as session:
        before = session.observe()[0]
        async with Load(before.url, predict) as load:
            await load.more(20)
            await session.apply(manifest("2.0"))
            after = await until(session, rolled_out)
            await load.more(20)
    assert load.failed == []
    assert set(load.words) == {"1.0", "2.0"}
    assert pids(after) == pids(before)
    assert after.status["models"][0]["activeVersion"] == "2.0"


async def test_a_bad_version_reaches_one_process_only_and_says_why():
    async with session_of(manifest()) as session:
        url = session.observe()[0].url
        async with Load(url, predict) as load:
            await session.apply(manifest("2.0", env={"FAIL": "no such layer"}))
            stalled = await until(session, lambda each: condition(each, "Stalled") == "True")
            await load.more(20)
            failure = stalled.status["models"][0]["rollout"]["lastFailure"]
            await session.apply(manifest())
            await until(session, rolled_out)
    assert load.failed == []
    assert set(load.words) == {"1.0"}
    assert failure["message"] == "no such layer"
    assert failure["pod"] == min(pids(stalled))


async def test_scaling_up_and_down_fails_no_request():
    async with session_of(manifest(replicas=1)) as session:
        url = session.observe()[0].url
        async with Load(url, predict) as load:
            for replicas in (4, 2, 3, 1):
                await session.apply(manifest(replicas=replicas))
                await until(session, rolled_out)
                await load.more(20)
    assert load.failed == []


async def test_an_idle_connection_to_a_leaving_process_still_gets_an_answer_and_is_told_to_close():
    async with session_of(manifest(replicas=2)) as session:
        url = session.observe()[0].url
        kept = [Connection(url), Connection(url)]
        for connection in kept:
            await connection.ask(predict(0))
        await session.apply(manifest(replicas=1))
        leaving = await until(session, lambda each: each.pods[-1].phase == "Draining")
        async with asyncio.timeout(10):
            await not_ready(leaving.pods[-1].management_url)
        answers = [await connection.ask(predict(1)) for connection in kept]
        await until(session, lambda each: len(each.pods) == 1)
        for connection in kept:
            connection.close()
    assert [answer.status for answer in answers] == [200, 200]
    assert sorted(answer.last_on_connection for answer in answers) == [False, True]


async def test_another_template_replaces_the_processes_one_by_one_without_a_failed_request():
    async with session_of(manifest()) as session:
        before = session.observe()[0]
        fewest, most = 9, 0

        def replaced(deployment):
            nonlocal fewest, most
            ready = sum(pod.phase == "Ready" for pod in deployment.pods)
            alive = sum(pod.phase != "Draining" for pod in deployment.pods)
            fewest, most = min(fewest, ready), max(most, alive)
            return rolled_out(deployment) and pids(deployment).keys().isdisjoint(pids(before))

        async with Load(before.url, predict) as load:
            await load.more(20)
            await session.apply(manifest(config={"job_queue_size": "7"}))
            await until(session, replaced)
            await load.more(20)
    assert load.failed == []
    assert (fewest, most) == (2, 3)


async def test_a_killed_process_comes_back_in_the_same_pod_and_its_death_is_told():
    async with session_of(manifest()) as session:
        before = session.observe()[0]
        victim = before.pods[0]
        os.kill(victim.pid, signal.SIGKILL)
        back = await until(
            session,
            lambda each: each.pods[0].restarts == 1 and {p.phase for p in each.pods} == {"Ready"},
        )
        status, _ = await ask(back.url)
    pod = back.pods[0]
    assert (pod.name, pod.last_exit) == (victim.name, "killed by SIGKILL")
    assert pod.pid != victim.pid
    assert pids(back)[before.pods[1].name] == before.pods[1].pid
    deaths = [each.event for each in back.events if each.event.reason == "PodDied"]
    assert [event.message.splitlines()[0] for event in deaths] == [
        f"{victim.name}: killed by SIGKILL; its last words:"
    ]
    assert status == 200


async def test_a_process_that_dies_again_and_again_is_started_ever_more_slowly(tmp_path):
    command = (sys.executable, "-c", "import sys; print('cannot start'); sys.exit(3)")
    async with LocalSession(tmp_path, base_port=0, command=command) as session:
        await session.apply(manifest(replicas=1))
        deployment = await until(session, lambda each: any(pod.restarts == 2 for pod in each.pods))
    assert deployment.pods[0].last_exit == "exit code 3"
    deaths = [each for each in deployment.events if each.event.reason == "PodDied"]
    gaps = [(b.at - a.at).total_seconds() for a, b in itertools.pairwise(deaths)]
    assert gaps == sorted(gaps)
    assert gaps[0] >= 0.5
    assert "cannot start" in deaths[0].event.message


async def test_a_runtime_that_is_not_there_is_told_and_can_be_stopped(tmp_path):
    async with LocalSession(tmp_path, base_port=0, command=("/nowhere/runtime",)) as session:
        await session.apply(manifest(replicas=1))
        deployment = await until(session, lambda each: any(p.last_exit for p in each.pods))
    assert deployment.pods[0].last_exit.startswith("could not be started:")


async def test_leaving_ends_every_process_and_frees_the_port_and_the_folder():
    port = free_port()
    async with session_of(manifest(), port=port) as session:
        deployment = session.observe()[0]
        folder = deployment.pods[0].log_file
        assert folder.exists()
    assert not any(psutil.pid_exists(pid) for pid in pids(deployment).values())
    assert not folder.parents[4].exists()
    with socket.socket() as again:
        again.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        again.bind(("127.0.0.1", port))


async def test_a_request_in_flight_is_answered_before_the_end():
    async with session_of(manifest(replicas=1)) as session:
        url = session.observe()[0].url
        asking = asyncio.create_task(ask(url, "/slow/1"))
        await until_connected(session)
    assert (await asking)[0] == 200


async def until_connected(session):
    balancer = session._parts.cluster._sets[KEY].balancer
    async with asyncio.timeout(5):
        while not balancer._open:  # noqa: ASYNC110  it has no event for this
            await asyncio.sleep(0.005)


async def test_a_process_that_will_not_hear_is_killed_after_its_grace():
    stubborn = manifest(
        replicas=1,
        config={"stubborn": "true"},
        terminationGracePeriod="1s",
        drainDelay="0s",
    )
    stubborn["spec"]["models"][0]["timeouts"] = {"response": "100ms"}
    loop = asyncio.get_running_loop()
    async with session_of(stubborn) as session:
        pid = session.observe()[0].pods[0].pid
        began = loop.time()
    assert not psutil.pid_exists(pid)
    assert loop.time() - began < 8


async def test_processes_are_out_of_reach_of_the_terminals_signals():
    async with session_of(manifest(replicas=2)) as session:
        sessions = [os.getsid(pid) for pid in pids(session.observe()[0]).values()]
        assert sessions == list(pids(session.observe()[0]).values())


OWNER = """
import asyncio, json, sys
from flambeau_operator.session import LocalSession

async def main():
    async with LocalSession(base_port=0, command=tuple(sys.argv[2:])) as session:
        await session.apply(json.loads(sys.argv[1]))
        while not session.observe()[0].status.get("readyReplicas"):
            await session.wait_change()
        pods = session.observe()[0].pods
        print(json.dumps({"pids": [p.pid for p in pods], "log": str(pods[0].log_file)}), flush=True)
        await asyncio.Event().wait()

asyncio.run(main())
"""


@pytest.mark.parametrize(
    "config",
    [
        pytest.param({}, id="processes that obey"),
        pytest.param({"stubborn": "true"}, id="processes that do not hear SIGTERM"),
    ],
)
async def test_nothing_outlives_a_session_that_was_killed(config, tmp_path):
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", OWNER, json.dumps(manifest(replicas=1, config=config)), *STANDIN),
        stdout=asyncio.subprocess.PIPE,
        env={**os.environ, "TMPDIR": str(tmp_path)},
    )
    facts = json.loads(await process.stdout.readline())
    process.kill()
    await process.wait()
    for pid in facts["pids"]:
        await gone(pid)
    async with asyncio.timeout(10):
        while any(tmp_path.iterdir()):  # noqa: ASYNC110  another process empties it
            await asyncio.sleep(0.02)


async def test_a_kept_folder_continues_where_it_was_left(tmp_path):
    async with session_of(manifest(), state_dir=tmp_path) as session:
        await session.apply(manifest("2.0"))
        first = await until(session, rolled_out)
    async with session_of(manifest("2.0"), state_dir=tmp_path) as session:
        second = session.observe()[0]
        status, body = await ask(second.url)
    assert (status, body["version"]) == (200, "2.0")
    assert second.generation == first.generation == 2
    assert second.status["sequence"] >= first.status["sequence"]


async def test_a_folder_serves_one_session_at_a_time(tmp_path):
    async with session_of(state_dir=tmp_path):
        with pytest.raises(StateDirInUse, match=str(tmp_path)):
            async with session_of(state_dir=tmp_path):
                pass
    async with session_of(state_dir=tmp_path):
        pass


async def test_a_port_that_is_taken_is_named_and_nothing_starts():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        async with LocalSession(base_port=port, command=STANDIN) as session:
            with pytest.raises(PortInUse, match=str(port)):
                await session.apply(manifest())
            assert session.observe() == ()


async def test_each_deployment_has_a_port_of_its_own_and_keeps_it():
    port = free_port()
    other = manifest(replicas=1)
    other["metadata"] = {"name": "other"}
    async with session_of(manifest(replicas=1), other, port=port) as session:
        await session.apply(manifest(replicas=2))
        ports = [urlsplit(deployment.url).port for deployment in session.observe()]
        await session.delete(KEY)
        await session.apply(manifest(replicas=1))
        after = [urlsplit(deployment.url).port for deployment in session.observe()]
    assert ports == [port, port + 1]
    assert after == [port + 1, port], "the first port is free again"


async def test_a_broken_manifest_is_refused_and_the_old_one_serves_on():
    async with session_of(manifest()) as session:
        before = session.observe()[0]
        broken = manifest()
        broken["spec"]["models"][0]["verison"] = "2.0"
        with pytest.raises(InvalidSpec):
            await session.apply(broken)
        after = session.observe()[0]
        assert (await ask(after.url))[0] == 200
    assert (after.generation, pids(after)) == (before.generation, pids(before))


async def test_a_namespace_cannot_lead_out_of_the_folder(tmp_path):
    elsewhere = manifest()
    elsewhere["metadata"]["namespace"] = ".."
    async with session_of(state_dir=tmp_path / "state") as session:
        with pytest.raises(InvalidSpec, match=r"metadata\.namespace"):
            await session.apply(elsewhere)
    assert [path.name for path in tmp_path.iterdir()] == ["state"]


async def test_a_deleted_deployment_leaves_nothing_and_may_come_again():
    async with session_of(manifest()) as session:
        before = session.observe()[0]
        await session.delete(KEY)
        assert session.observe() == ()
        for pid in pids(before).values():
            await gone(pid)
        await session.apply(manifest("2.0", replicas=1))
        again = await until(session, rolled_out)
        assert (await ask(again.url))[1]["version"] == "2.0"


async def test_suspending_stops_the_processes_and_keeps_the_address():
    async with session_of(manifest()) as session:
        suspended = manifest()
        suspended["spec"]["suspend"] = True
        await session.apply(suspended)
        await until(session, lambda each: not each.pods)
        await session.apply(manifest())
        back = await until(session, rolled_out)
        assert (await ask(back.url))[0] == 200
