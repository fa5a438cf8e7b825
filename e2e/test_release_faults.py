"""In each phase of a release the operator dies, a pod leaves and another is added: no difference.

Every fault alone in every phase is asked of processes (tests/processes); here all of them meet at
once, in real pods.
"""

import concurrent.futures
import contextlib
import subprocess

import pytest
from tests import archives as archive_files

from e2e import releases
from e2e.flambeau import SYSTEM, Tenant, identity
from e2e.load import Pace, Question, ask, load
from e2e.releases import Candidate, committed_version, steps, versions_in
from e2e.waiting import until

pytestmark = pytest.mark.timeout(420)

BASE = Candidate("base", releases.SLEEPY)
TAKEN_BACK = Candidate("taken-back", releases.SLEEPY, hot={"steps": steps((10, "5m"), (100, "0s"))})
SLOW_S = 8
TOLD = "{.status.models[0].targetVersion} {.status.models[0].phase}{'\\n'}"
GOOD = {
    "Fetching": Candidate("fetching", way=releases.FETCHING),
    "Verifying": Candidate("verifying", way=releases.VERIFYING),
    "Loading": Candidate("loading", archive_files.SLOW_TO_LOAD),
    "Warming": Candidate("warming", releases.SLOW_TO_WARM),
    "Canary": Candidate("canary", hot={"steps": steps((20, "6s"), (100, "0s"))}),
    "Promoting": Candidate("promoting"),
    "Draining": Candidate("draining", slow_request_s=SLOW_S),
    "Serving": Candidate("serving", hot={"keepPrevious": "10s"}),
}


@pytest.fixture(scope="module")
def land(flambeau, tmp_path_factory):
    """A namespace where version after version is released."""
    namespace = "releases-and-faults"
    flambeau.cluster.run("create", "namespace", namespace)
    tenant = Tenant(flambeau, namespace)
    archives = releases.archives(
        tmp_path_factory.mktemp("archives"), BASE, TAKEN_BACK, *GOOD.values()
    )
    tenant.apply(archives, *releases.store(), BASE.manifest(tenant))
    tenant.kubectl("wait", "pod/store", "--for=condition=Ready", "--timeout=60s", timeout_s=70)
    yield tenant
    flambeau.cluster.run("delete", "namespace", namespace, "--wait=false")


@pytest.fixture
def served(land):
    """The base version in two pods, and nothing on its way."""
    land.apply(BASE.manifest(land))
    land.generation_seen()
    land.wait("RolledOut")
    until("two pods that have it alone", lambda: _at_rest(land, BASE.version, 2))
    return land


@pytest.mark.parametrize("phase", GOOD)
def test_a_release_ends_as_if_nothing_had_happened(served, phase):
    candidate = GOOD[phase]
    with _asking(served) as asking, _slow_request(served, BASE.version, candidate.slow_request_s):
        served.apply(candidate.manifest(served))
        _until_in(served, phase, candidate)
        _disturb(served, candidate)
        served.generation_seen(within_s=60)
        served.wait("RolledOut", within_s=120)
        until("the end", lambda: _at_rest(served, candidate.version, 3), 60)
        asking.more(60)
    assert not asking.summary.failed, asking.summary
    assert set(asking.summary.words) == {BASE.version, candidate.version}
    (past, *_) = served.get()["status"]["models"][0]["history"]
    assert (past["version"], past["outcome"]) == (candidate.version, "Promoted")


def test_a_rollback_ends_as_if_nothing_had_happened(served):
    """A request that the candidate has still to answer keeps the rollback waiting."""
    with _asking(served) as asking:
        served.apply(TAKEN_BACK.manifest(served))
        _until_in(served, "Canary", TAKEN_BACK)
        with _slow_request(served, TAKEN_BACK.version, SLOW_S, f"/{TAKEN_BACK.version}"):
            (model,) = served.get()["status"]["models"]
            abort = f"serving.flambeau.dev/abort={model['rollout']['specHash']}"
            served.kubectl("annotate", "modeldeployment", "echo", abort)
            _until_in(served, "RollingBack", TAKEN_BACK)
            _disturb(served, TAKEN_BACK)
        status = served.until_phase("RolledBack", within_s=120)
        until("the end", lambda: _at_rest(served, BASE.version, 3), 60)
        asking.more(60)
    assert not asking.summary.failed, asking.summary
    assert set(asking.summary.words) <= {BASE.version, TAKEN_BACK.version}
    assert status["models"][0]["rollout"]["lastFailure"]["reason"] == "Aborted"
    assert served.condition("Stalled")["status"] == "True"


def _disturb(tenant, candidate):
    """Kill the operator, take a pod away, and ask for one more."""
    flambeau = tenant.flambeau
    kill = ["--grace-period=0", "--force", "--wait=false"]
    for operator in flambeau.operators():
        flambeau.cluster.run("-n", SYSTEM, "delete", "pod", operator["metadata"]["name"], *kill)
    tenant.kubectl("delete", "pod", tenant.pods()[0]["metadata"]["name"], "--wait=false")
    tenant.apply(candidate.manifest(tenant, replicas=3))


def _until_in(tenant, phase, candidate):
    """Return once a status says that the release of the candidate is in a phase.

    A watch tells of every status, also of those that last a moment.
    """
    argv = [str(tenant.cluster.kubectl), f"--kubeconfig={tenant.cluster.kubeconfig}"]
    argv += ["-n", tenant.namespace, "get", "modeldeployment", "echo", "--watch"]
    argv += ["--request-timeout=60s", f"-o=jsonpath={TOLD}"]
    wanted, seen = f"{candidate.version} {phase}", []
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as watch:
        for line in watch.stdout:
            seen.append(line.strip())
            if seen[-1] == wanted:
                watch.terminate()
                return
    raise AssertionError(f"never {wanted}, but {seen}")


def _at_rest(tenant, version, replicas):
    """Tell whether every pod has this version and no other, and the next pod will have it too."""
    pods, status = tenant.pods(), tenant.get()["status"]
    restarts = [restarted for _, _, restarted in identity(pods)]
    kept = {frozenset(versions_in(tenant, each["metadata"]["name"])) for each in pods}
    conditions = {each["type"]: each["status"] for each in status["conditions"]}
    return (
        restarts == [0] * replicas
        and kept == {frozenset({version})}
        and committed_version(tenant) == status["models"][0]["activeVersion"] == version
        and status.get("readyReplicas") == replicas
        and conditions["Ready"] == "True"
        and "Reconciling" not in conditions
    )


def _asking(tenant):
    question = Question(f"{tenant.url()}/predictions/echo", b"{}", word='"version": ?"([^"]*)"')
    return load(tenant.cluster, tenant.namespace, question, Pace(rate=40))


@contextlib.contextmanager
def _slow_request(tenant, version, seconds, path=""):
    """Have a version answer a request that takes so long, if it takes any time at all."""
    if not seconds:
        yield
        return
    question = Question(f"{tenant.url()}/predictions/echo{path}", b'{"sleep": %d}' % seconds)
    with concurrent.futures.ThreadPoolExecutor(1) as aside:
        answer = aside.submit(ask, tenant.cluster, tenant.namespace, question)
        until("it is asked", lambda: _runs(tenant, "ask-"))
        yield
        assert f'"{version}"' in answer.result(timeout=60)


def _runs(tenant, prefix):
    pods = tenant.flambeau.items(tenant.namespace, "pods")
    return any(
        each["metadata"]["name"].startswith(prefix) and each["status"]["phase"] == "Running"
        for each in pods
    )
