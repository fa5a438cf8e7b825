"""Releases through a Service: a good canary, a bad one, one without room for two, and new pods."""

import math

import pytest
from tests import archives as archive_files

from e2e import releases
from e2e.flambeau import echo, identity
from e2e.releases import Candidate, committed_version, steps
from e2e.waiting import until

pytestmark = pytest.mark.timeout(420)

RATE = 80
ANALYSIS = {
    "minRequests": 40,
    "maxWait": "60s",
    "failOn": {"errorRate": {"max": "5%"}, "workerRestarts": {"max": 0}},
}
FIRST = Candidate("1.0")
BAD = Candidate("bad", releases.ERRS)
UNLOADABLE = Candidate("unloadable", archive_files.RAISES_IN_INITIALIZE)
OOM_KILLS = """
import pathlib
root = pathlib.Path("/sys/fs/cgroup")
[told] = [f for f in (root / "memory.events", root / "memory/memory.oom_control") if f.exists()]
print(dict(line.split() for line in told.read_text().splitlines())["oom_kill"])
"""


@pytest.fixture
def served(tenant, tmp_path):
    """Version 1.0 in two pods; archives of the others."""
    known = (FIRST, Candidate("2.0"), BAD, UNLOADABLE)
    tenant.apply(releases.archives(tmp_path, *known), FIRST.manifest(tenant))
    tenant.wait("RolledOut")
    return tenant


def canary(first, *more):
    """Return what a candidate says of its steps and their analysis."""
    return {"steps": steps(first, *more, (100, "0s")), "analysis": ANALYSIS}


def test_a_good_canary_goes_from_step_to_step_and_serves(served, load):
    before = identity(served.pods())
    good = Candidate("2.0", hot=canary((5, "2s"), (50, "2s")))
    with load(served.url(), rate=RATE) as asking:
        served.apply(good.manifest(served))
        seen = _weights_until_rolled_out(served)
        asking.more(50)
    assert not asking.summary.failed, asking.summary
    assert set(asking.summary.words) == {"1.0", "2.0"}
    assert identity(served.pods()) == before
    assert [weight for weight in seen if weight in {5, 50, 100}] == [5, 50, 100]
    (past, *_) = served.get()["status"]["models"][0]["history"]
    assert (past["version"], past["fromVersion"], past["outcome"]) == ("2.0", "1.0", "Promoted")
    assert committed_version(served) == "2.0"
    described = served.kubectl("describe", "modeldeployment", "echo")
    assert "echo@2.0" in described


def test_a_bad_canary_is_taken_back_with_its_numbers_and_costs_no_more_than_its_share(served, load):
    before = identity(served.pods())
    with load(served.url(), rate=RATE) as asking:
        served.apply(Candidate("bad", releases.ERRS, hot=canary((10, "20s"))).manifest(served))
        status = served.until_phase("RolledBack")
        asking.more(100)
    (model,), words = status["models"], asking.summary.words
    assert model["activeVersion"] == "1.0"
    assert (served.condition("Ready")["status"], served.condition("Stalled")["status"]) == (
        "True",
        "True",
    )
    failure = model["rollout"]["lastFailure"]
    judged = model["rollout"]["analysis"]
    assert (failure["reason"], judged["verdict"]) == ("AnalysisFailed", "Failed")
    assert "({errors} of {requests})".format(**judged["new"]) in failure["message"]
    assert judged["new"]["errors"] > judged["old"]["errors"] == 0
    # What a client saw fail was the candidate's, and that had its tenth of the requests at most.
    asked_of_it = asking.summary.failed + words.get("bad", 0)
    share = 0.1 * asking.summary.sent
    assert asking.summary.failed <= asked_of_it <= share + 3 * math.sqrt(share)
    reasons = [str(each["reason"]) for each in asking.summary.failures]
    assert all("version bad cannot do this one" in each for each in reasons), reasons
    assert identity(served.pods()) == before
    events = served.kubectl("get", "events", "-o", "jsonpath={.items[*].message}")
    assert "echo@bad was taken back" in events
    assert failure["message"] in served.kubectl("describe", "modeldeployment", "echo")


@pytest.mark.parametrize(
    ("workers", "mib", "mode"),
    [
        pytest.param(1, 300, "Recreate", id="one worker: pod by pod, out of the Service"),
        pytest.param(2, 170, "WorkerByWorker", id="two workers: one after the other"),
    ],
)
def test_a_model_that_fits_once_but_not_twice_comes_in_another_way(
    tenant, tmp_path, load, workers, mib, mode
):
    old, new = (Candidate(each, releases.large(mib)) for each in ("1.0", "2.0"))
    resources = {"requests": {"cpu": "50m", "memory": "600Mi"}, "limits": {"memory": "600Mi"}}

    def manifest(candidate):
        body = candidate.manifest(tenant, resources=resources)
        body["spec"]["models"][0]["workers"] = {"min": workers}
        return body

    tenant.apply(releases.archives(tmp_path, old, new), manifest(old))
    tenant.wait("RolledOut")
    before = identity(tenant.pods())
    with load(tenant.url(), rate=20) as asking:
        tenant.apply(manifest(new))
        tenant.generation_seen()
        chosen = until("a mode", lambda: _rollout(tenant).get("mode"))
        reason = _rollout(tenant)["modeReason"]
        tenant.wait("RolledOut", within_s=150)
        asking.more(40)
    assert (chosen, asking.summary.failed) == (mode, 0), (reason, asking.summary)
    assert "MiB" in reason
    assert set(asking.summary.words) == {"1.0", "2.0"}
    assert identity(tenant.pods()) == before
    kills = [
        tenant.kubectl("exec", pod["metadata"]["name"], "--", "python3", "-c", OOM_KILLS).strip()
        for pod in tenant.pods()
    ]
    assert kills == ["0", "0"]


def rolling(version, **rollout):
    """Return a ModelDeployment whose versions change by new pods."""
    return echo(version, workers=1, rollout={"strategy": "RollingPods", **rollout})


def test_rolling_pods_bring_a_version_by_new_pods_only(tenant, tmp_path, load):
    tenant.apply(releases.archives(tmp_path, FIRST, Candidate("2.0")), rolling("1.0"))
    tenant.wait("RolledOut")
    before = _uids(tenant)
    with load(tenant.url()) as asking:
        tenant.apply(rolling("2.0"))
        tenant.generation_seen()
        tenant.wait("RolledOut", within_s=150)
        asking.more(60)
    assert not asking.summary.failed, asking.summary
    assert set(asking.summary.words) == {"1.0", "2.0"}
    assert not before & _uids(tenant)
    assert tenant.get()["status"]["models"][0]["history"][0]["mode"] == "RollingPods"
    assert committed_version(tenant) == "2.0"


def test_rolling_pods_stop_at_the_first_bad_one_and_go_back(tenant, tmp_path, load):
    tenant.apply(releases.archives(tmp_path, FIRST, UNLOADABLE), rolling("1.0"))
    tenant.wait("RolledOut")
    before = _uids(tenant)
    with load(tenant.url()) as asking:
        tenant.apply(rolling("unloadable", progressDeadline="20s"))
        tenant.generation_seen()
        tenant.until_phase("RolledBack", within_s=120)
        until("the old pods alone", lambda: _uids(tenant) == before, 90)
        asking.more(60)
    assert not asking.summary.failed, asking.summary
    assert set(asking.summary.words) == {"1.0"}
    assert tenant.condition("Stalled")["status"] == "True"
    assert committed_version(tenant) == "1.0"


def _weights_until_rolled_out(tenant):
    """Return the candidate's weights, each once, in the order in which the status showed them."""
    seen = []

    def look():
        found = tenant.get()
        (model,) = found["status"]["models"]
        if model["targetVersion"] == "2.0" and model["weight"] not in seen:
            seen.append(model["weight"])
        conditions = {each["type"]: each for each in found["status"]["conditions"]}
        rolled_out = conditions["RolledOut"]
        generation = found["metadata"]["generation"]
        return rolled_out["status"] == "True" and rolled_out["observedGeneration"] == generation

    until("the release is through", look, 120, every_s=0.1)
    return seen


def _rollout(tenant):
    return tenant.get()["status"]["models"][0]["rollout"]


def _uids(tenant):
    return {pod["metadata"]["uid"] for pod in tenant.pods()}
