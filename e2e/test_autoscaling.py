"""Pods come and go with the load, and nobody but who is asked to changes their number."""

import pytest

from e2e.flambeau import echo
from e2e.waiting import until

pytestmark = pytest.mark.timeout(600)

# Half a minute instead of five, so that a test sees the way down as well.
BEHAVIOR = {
    "scaleDown": {
        "stabilizationWindowSeconds": 15,
        "policies": [{"type": "Pods", "value": 4, "periodSeconds": 15}],
    }
}
CPU = {
    "type": "Resource",
    "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 60}},
}
RESOURCES = {"requests": {"cpu": "100m", "memory": "128Mi"}}


def autoscaled(low=1, high=3):
    hpa = {"min": low, "max": high, "metrics": [CPU], "behavior": BEHAVIOR}
    return echo("busy", workers=1, replicas=None, autoscaling={"hpa": hpa}, resources=RESOURCES)


def _asked_for(tenant):
    return tenant.get(kind="deployment")["spec"]["replicas"]


def test_pods_follow_the_load_up_and_down(tenant, archives, load):
    tenant.apply(archives("busy"), autoscaled())
    tenant.wait("RolledOut")
    assert _asked_for(tenant) == 1
    with load(tenant.url(), rate=40):
        until("more pods", lambda: tenant.get()["status"].get("readyReplicas", 0) >= 2, 180)
    with load(tenant.url(), rate=2) as asking:
        until("one pod again", lambda: len(tenant.pods()) == 1, 240)
        tenant.wait("RolledOut")
        asking.more(10)
    assert not asking.summary.failed, asking.summary
    assert tenant.condition("AutoscalingActive")["status"] == "True"


def test_who_decides_changes_and_the_number_does_not(tenant, archives):
    fixed = echo("busy", workers=1, replicas=2, resources=RESOURCES)
    tenant.apply_server_side(archives("busy"), fixed)
    tenant.wait("RolledOut")
    seen = []

    def watch(condition):
        def look():
            seen.append(_asked_for(tenant))
            return condition()

        return look

    tenant.apply_server_side(autoscaled(low=1, high=3))
    until("the autoscaler is there", watch(lambda: tenant.get(kind="hpa")), 30)
    tenant.generation_seen()
    tenant.apply_server_side(fixed)
    until(
        "the autoscaler is gone",
        watch(lambda: not tenant.flambeau.items(tenant.namespace, "hpa")),
        30,
    )
    tenant.wait("RolledOut")
    seen.append(_asked_for(tenant))
    assert set(seen) == {2}


def test_suspend_stops_every_pod_and_resume_brings_them_back(tenant, archives):
    tenant.apply(archives("1.0"), echo())
    tenant.wait("RolledOut")
    tenant.apply(echo(suspend=True))
    tenant.wait("Suspended")
    until("no pod runs", lambda: not tenant.pods(), 60)
    tenant.apply(echo(suspend=False))
    tenant.wait("RolledOut", within_s=120)
    assert len(tenant.pods()) == 2
