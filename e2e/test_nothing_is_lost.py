"""Under load, with two replicas of two workers: no request fails, whatever leaves or dies."""

import json

import pytest

from e2e.flambeau import SYSTEM, echo, identity
from e2e.waiting import until

pytestmark = pytest.mark.timeout(420)


@pytest.fixture
def served(tenant, archives):
    """Version 1.0 in two pods with two workers each."""
    tenant.apply(archives("1.0", "2.0", "slow-2.0"), echo())
    tenant.wait("RolledOut")
    return tenant


def test_a_version_and_a_worker_count_change_in_the_running_pods(served, load):
    before = identity(served.pods())
    with load(served.url()) as asking:
        served.apply(echo("2.0", workers=3))
        served.generation_seen()
        served.wait("RolledOut")
        asking.more(100)
    assert not asking.summary.failed, asking.summary
    assert set(asking.summary.words) == {"1.0", "2.0"}
    assert identity(served.pods()) == before
    assert served.get()["status"]["workers"] == "6/6"


def test_a_pod_is_deleted(served, load):
    gone = served.pods()[0]["metadata"]["name"]
    with load(served.url()) as asking:
        served.kubectl("delete", "pod", gone, timeout_s=90)
        until("two ready pods again", lambda: served.get()["status"].get("readyReplicas") == 2)
        served.wait("RolledOut")
        asking.more(100)
    assert not asking.summary.failed, asking.summary


def test_a_worker_is_killed(served, load):
    pod = served.pods()[0]
    name = pod["metadata"]["name"]
    before = identity(served.pods())
    with load(served.url()) as asking:
        workers = _ready_workers(served, name)
        killed = min(workers)
        served.kubectl("exec", name, "--", "python3", "-c", f"import os; os.kill({killed}, 9)")

        def replaced() -> bool:
            now = _ready_workers(served, name)
            return len(now) == 2 and killed not in now

        until("its place is taken", replaced)
        asking.more(200)
    assert not asking.summary.failed, asking.summary
    assert identity(served.pods()) == before


def test_another_template_rolls_all_pods(served, load):
    before = _uids(served)
    with load(served.url()) as asking:
        served.apply(echo(runtime={"config": {"job_queue_size": "150"}}))
        served.generation_seen()
        served.wait("RolledOut", within_s=150)
        until("the old pods are gone", lambda: not before & _uids(served))
        asking.more(100)
    assert not asking.summary.failed, asking.summary


def test_the_operator_is_killed_while_a_version_loads(served, load):
    flambeau = served.flambeau
    before = identity(served.pods())
    with load(served.url()) as asking:
        served.apply(echo("slow-2.0"))
        status = served.until_phase("Loading")
        operator = flambeau.operators()[0]["metadata"]["name"]
        kill = ["delete", "pod", operator, "--grace-period=0", "--force"]
        flambeau.cluster.run("-n", SYSTEM, *kill)
        assert status["models"][0]["activeVersion"] == "1.0"
        served.wait("RolledOut", within_s=150)
        asking.more(100)
    assert not asking.summary.failed, asking.summary
    assert set(asking.summary.words) == {"1.0", "slow-2.0"}
    assert identity(served.pods()) == before


def _uids(tenant):
    return {pod["metadata"]["uid"] for pod in tenant.pods()}


def _ready_workers(tenant, pod):
    """Return the process ids of the ready workers in a pod, as the runtime's own API tells them."""
    ask = "import urllib.request as r; print(r.urlopen('http://127.0.0.1:8081/models/echo').read().decode())"
    described = json.loads(tenant.kubectl("exec", pod, "--", "python3", "-c", ask))
    return {each["pid"] for each in described[0]["workers"] if each["status"] == "READY"}
