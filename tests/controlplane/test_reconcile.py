"""Passes against both doors in memory."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from flambeau_operator import reconcile
from flambeau_operator.doors import Key, Outcome
from flambeau_operator.errors import Conflict, Silent, Unavailable
from flambeau_operator.reconcile import Reconciler
from tests.fakes import Crash, Crashing, FakeCluster, FakeRuntimes

NOW = datetime(2026, 1, 2, tzinfo=UTC)
KEY = Key("default", "vision")


def manifest(version="1.0", replicas=2, **model):
    source = {"uri": f"file:///models/m-{version}.mar"}
    return {
        "apiVersion": "serving.flambeau.dev/v1alpha1",
        "kind": "ModelDeployment",
        "metadata": {"name": "vision"},
        "spec": {
            "replicas": replicas,
            "models": [{"name": "m", "version": version, "source": source, **model}],
        },
    }


def operator(cluster, runtimes=None):
    return Reconciler(cluster, runtimes or cluster.runtimes, lambda: NOW)


def recorded(cluster, **death):
    """An operator whose every call is noted, and one of them its last, if `death` says so."""
    calls = []
    doors = (Crashing(door, calls, **death) for door in (cluster, cluster.runtimes))
    return operator(*doors), calls


async def served(body=None, failing=()):
    """A world in which a deployment has come to rest."""
    cluster = FakeCluster(FakeRuntimes(failing))
    await cluster.create(body or manifest())
    await settle(cluster)
    return cluster


async def settle(cluster, reconciler=None):
    """Pass until a pass wrote nothing and waits for nothing."""
    reconciler = reconciler or operator(cluster)
    for _ in range(20):
        before = cluster.status_writes
        result = await reconciler.reconcile(KEY)
        if not result.watch and not result.failures and cluster.status_writes == before:
            break
    return result


def status(cluster):
    return cluster.objects[KEY]["status"]


def conditions(cluster):
    return {
        each["type"]: (each["status"], each["reason"]) for each in status(cluster)["conditions"]
    }


def end_state(cluster):
    """All that must not depend on how it was reached."""
    runtimes = cluster.runtimes
    return {
        "models": status(cluster)["models"],
        "conditions": conditions(cluster),
        "pods": [pod.name for pod in cluster.pods[KEY]],
        "told": {
            name: (document.owner, document.models) for name, document in runtimes.told.items()
        },
        "committed": [document.models for document in cluster.committed.values()],
        "defaults": runtimes.defaults,
    }


async def test_a_new_deployment_comes_to_serve():
    cluster = await served()
    assert conditions(cluster)["Ready"][0] == "True"
    assert conditions(cluster)["RolledOut"][0] == "True"
    assert len(cluster.pods[KEY]) == 2


async def test_an_edit_of_the_version_changes_every_pod_and_none_is_replaced():
    cluster = await served()
    before = cluster.pods[KEY]
    await cluster.create(manifest("2.0"))
    await settle(cluster)
    assert status(cluster)["models"][0]["activeVersion"] == "2.0"
    assert set(cluster.runtimes.defaults.values()) == {"2.0"}
    assert cluster.pods[KEY] == before


async def test_a_pass_at_the_goal_writes_nothing():
    cluster = await served()
    writes, accepted = cluster.status_writes, len(cluster.runtimes.accepted)
    events = len(cluster.events)
    result = await settle(cluster)
    assert (cluster.status_writes, len(cluster.runtimes.accepted)) == (writes, accepted)
    assert (len(cluster.events), result.watch, result.failures) == (events, (), ())


async def test_a_version_that_cannot_load_is_tried_in_one_pod_only_and_the_old_one_serves_on():
    cluster = await served(failing=["2.0"])
    await cluster.create(manifest("2.0"))
    await settle(cluster)
    tried = {
        pod
        for pod, document in cluster.runtimes.accepted
        if document.models[0].version("2.0") is not None
    }
    assert len(tried) == 1
    assert set(cluster.runtimes.defaults.values()) == {"1.0"}
    assert conditions(cluster)["Stalled"] == ("True", "RolledBack")


async def test_the_sequence_is_in_the_status_before_a_pod_sees_it():
    cluster = await served()
    await cluster.create(manifest("2.0"))
    sequences = []
    put = cluster.runtimes.put_state

    async def watched_put(pod, document):
        sequences.append((status(cluster)["sequence"], document.sequence))
        await put(pod, document)

    cluster.runtimes.put_state = watched_put
    await settle(cluster)
    assert sequences
    assert all(written >= sent for written, sent in sequences)


async def test_the_committed_set_is_written_before_any_pod_is_told_the_same():
    cluster = await served()
    await cluster.create(manifest("2.0"))
    reconciler, calls = recorded(cluster)
    while "commit" not in calls:
        calls.clear()
        await reconciler.reconcile(KEY)
    wrote = [call for call in calls if call in ("write_status", "commit", "put_state")]
    assert wrote == ["write_status", "commit", "put_state", "put_state"]


async def calls_of(cluster_of, edit):
    """Return the names of all door calls from an edit to rest."""
    cluster = await cluster_of()
    await edit(cluster)
    reconciler, calls = recorded(cluster)
    await settle(cluster, reconciler)
    return calls, end_state(cluster)


async def empty():
    return FakeCluster()


@pytest.mark.parametrize(
    ("start", "body", "failing"),
    [
        pytest.param(empty, manifest(), (), id="while a deployment is created"),
        pytest.param(served, manifest("2.0"), (), id="while a version rolls"),
        pytest.param(served, manifest("2.0"), ("2.0",), id="while a bad version is taken back"),
        pytest.param(served, manifest(replicas=3), (), id="while it is scaled"),
        pytest.param(served, manifest(workers={"min": 3}), (), id="while its workers change"),
    ],
)
@pytest.mark.parametrize(
    "after",
    [
        pytest.param(False, id="before the call has its effect"),
        pytest.param(True, id="after the call had its effect"),
    ],
)
async def test_an_operator_that_dies_at_any_call_is_finished_by_its_successor(
    start, body, failing, after
):
    async def edit(cluster):
        cluster.runtimes.failing |= set(failing)
        await cluster.create(body)

    names, wanted = await calls_of(start, edit)
    for at in range(len(names)):
        cluster = await start()
        await edit(cluster)
        reconciler, _ = recorded(cluster, at=at, after=after)
        try:
            await settle(cluster, reconciler)
        except* Crash:
            pass
        await settle(cluster)
        assert end_state(cluster) == wanted, f"dead at call {at}: {names[at]}"


async def test_an_object_that_changed_meanwhile_drops_the_pass():
    cluster = await served()
    await cluster.create(manifest("2.0"))
    read = cluster.list_pods

    async def edited_meanwhile(ref):
        await cluster.create(manifest("3.0"))
        return await read(ref)

    cluster.list_pods = edited_meanwhile
    accepted = len(cluster.runtimes.accepted)
    result = await operator(cluster).reconcile(KEY)
    assert result.failures
    assert len(cluster.runtimes.accepted) == accepted


async def test_a_pod_that_knows_a_higher_sequence_is_convinced_by_the_next_pass():
    cluster = await served()
    first = cluster.pods[KEY][0].name
    put = cluster.runtimes.put_state
    await cluster.create(manifest("2.0"))

    async def ahead_of_us(pod, document):
        if pod.name == first and cluster.runtimes.told[first].sequence < 40:
            cluster.runtimes.told[first] = replace(cluster.runtimes.told[first], sequence=40)
        await put(pod, document)

    cluster.runtimes.put_state = ahead_of_us
    result = await operator(cluster).reconcile(KEY)
    assert [(each.action, each.target) for each in result.failures] == [("put state", first)]
    await settle(cluster)
    assert status(cluster)["sequence"] > 40
    assert set(cluster.runtimes.defaults.values()) == {"2.0"}


@pytest.mark.parametrize(
    ("method", "fault", "action"),
    [
        pytest.param(
            "apply_children", Unavailable("quota"), "apply children", id="pods cannot be asked for"
        ),
        pytest.param("commit", Unavailable("disk full"), "commit", id="the set cannot be written"),
        pytest.param("emit", Unavailable("no events"), "emit", id="nobody can be told"),
    ],
)
async def test_what_fails_is_collected_and_the_pass_goes_on(method, fault, action):
    cluster = FakeCluster()
    await cluster.create(manifest())

    async def fails(*_):
        raise fault

    setattr(cluster, method, fails)
    reconciler = operator(cluster)
    failures = [failure for _ in range(3) for failure in (await reconciler.reconcile(KEY)).failures]
    assert Outcome(action, str(KEY), str(fault)) in failures
    assert {failure.action for failure in failures} == {action}


async def test_no_pod_is_told_what_could_not_be_committed():
    cluster = await served()
    await cluster.create(manifest("2.0"))

    async def fails(*_):
        raise Unavailable("disk full")

    cluster.commit = fails
    await settle(cluster)
    assert {document.models[0].default for _, document in cluster.runtimes.accepted} == {"1.0"}


async def test_a_cluster_that_cannot_be_read_is_a_failure_and_not_an_exception():
    cluster = FakeCluster()

    async def fails(*_):
        raise Unavailable("API server is down")

    cluster.read_deployment = fails
    result = await operator(cluster).reconcile(KEY)
    assert [each.error for each in result.failures] == ["API server is down"]


@pytest.mark.parametrize(
    "gone",
    [
        pytest.param(lambda cluster: cluster.objects.clear(), id="deleted"),
        pytest.param(
            lambda cluster: cluster.objects[KEY]["metadata"].update(deletionTimestamp="now"),
            id="being deleted",
        ),
    ],
)
async def test_an_object_that_goes_is_dropped_without_a_write(gone):
    cluster = await served()
    writes = cluster.status_writes
    gone(cluster)
    result = await operator(cluster).reconcile(KEY)
    assert result.gone
    assert cluster.status_writes == writes


async def test_an_object_that_cannot_be_parsed_says_so_and_its_pods_serve_on():
    cluster = await served()
    cluster.objects[KEY]["spec"] = {"models": [{"nmae": "m"}]}
    result = await operator(cluster).reconcile(KEY)
    assert not result.failures
    assert conditions(cluster)["Stalled"][0] == "True"
    assert len(cluster.pods[KEY]) == 2


async def test_silence_is_counted_from_pass_to_pass_and_ends_with_the_first_answer(monkeypatch):
    cluster = await served()
    silent = cluster.pods[KEY][0].name
    seen = []
    make_plan = reconcile.make_plan

    def spy(deployment, snapshot, now):
        seen.append({pod.name: pod.silent_passes for pod in snapshot.pods}[silent])
        return make_plan(deployment, snapshot, now)

    monkeypatch.setattr(reconcile, "make_plan", spy)
    reconciler = operator(cluster)
    cluster.runtimes.silent = {silent}
    await reconciler.reconcile(KEY)
    await reconciler.reconcile(KEY)
    cluster.runtimes.silent = set()
    await reconciler.reconcile(KEY)
    assert seen == [1, 2, 0]


async def test_a_rollout_is_watched_and_rest_is_not():
    cluster = await served()
    await cluster.create(manifest("2.0"))
    result = await operator(cluster).reconcile(KEY)
    assert [each.pod for each in result.watch] == cluster.pods[KEY]
    assert not (await settle(cluster)).watch


async def test_waiting_ends_when_one_pod_has_another_revision():
    cluster = await served()
    await cluster.create(manifest("2.0"))
    reconciler = operator(cluster)
    watch = (await reconciler.reconcile(KEY)).watch
    await reconciler.wait_for_change(watch)


async def test_waiting_ends_when_one_pod_falls_silent():
    cluster = await served()
    await cluster.create(manifest("2.0"))
    reconciler = operator(cluster)
    watch = (await reconciler.reconcile(KEY)).watch

    async def silence(*_, **__):
        raise Silent("gone")

    cluster.runtimes.get_state = silence
    await reconciler.wait_for_change(watch)


async def test_a_conflict_in_any_write_ends_the_pass_without_a_put():
    cluster = await served()
    await cluster.create(manifest("2.0"))

    async def conflict(*_):
        raise Conflict("changed")

    cluster.apply_children = conflict
    accepted = len(cluster.runtimes.accepted)
    result = await operator(cluster).reconcile(KEY)
    assert [each.action for each in result.failures] == ["pass"]
    assert len(cluster.runtimes.accepted) == accepted
