"""What is deleted goes, and takes with it what it should: nothing more, nothing less."""

import json

import pytest

from e2e.flambeau import SYSTEM, echo
from e2e.waiting import until

pytestmark = pytest.mark.timeout(420)

CHILDREN = (
    "deployments,services,configmaps,serviceaccounts,poddisruptionbudgets,networkpolicies,"
    "horizontalpodautoscalers,pods"
)


def test_with_the_operator_down_a_deletion_takes_every_child(tenant, archives):
    tenant.apply(archives("1.0"), echo())
    tenant.wait("RolledOut")
    assert len(_ours(tenant)) >= 6
    with tenant.flambeau.without_operator():
        tenant.kubectl("delete", "modeldeployment", "echo", "--timeout=30s")
        until("every child is gone", lambda: not _ours(tenant), 60)


def test_an_uninstalled_chart_leaves_models_serving_and_the_definition(tenant, archives, load):
    tenant.apply(archives("1.0"), echo())
    tenant.wait("RolledOut")
    flambeau = tenant.flambeau
    with load(tenant.url()) as asking:
        flambeau.uninstall()
        until("the operator is gone", lambda: not flambeau.operators())
        asking.more(100)
        assert tenant.get()["spec"]["replicas"] == 2
        flambeau.install()
        tenant.apply(echo(replicas=3))
        tenant.generation_seen(within_s=60)
        tenant.wait("RolledOut")
    assert not asking.summary.failed, asking.summary


def test_of_two_operators_one_leads(tenant, archives):
    flambeau = tenant.flambeau
    flambeau.scale_operator(2)
    try:
        holder = _holder(flambeau)
        tenant.apply(archives("1.0"), echo())
        tenant.wait("RolledOut")
        assert _holder(flambeau) == holder
        flambeau.cluster.run("-n", SYSTEM, "delete", "pod", holder, "--wait=false")
        until("the other one leads", lambda: _holder(flambeau) not in {"", holder})
        tenant.apply(echo(replicas=1))
        tenant.generation_seen(within_s=60)
        tenant.wait("RolledOut")
    finally:
        flambeau.scale_operator(1)


def _holder(flambeau):
    lease = json.loads(
        flambeau.cluster.run("-n", SYSTEM, "get", "lease", "flambeau-operator", "-o", "json")
    )
    identity = lease["spec"].get("holderIdentity") or ""
    return next(
        (
            pod["metadata"]["name"]
            for pod in flambeau.operators()
            if pod["metadata"]["name"] in identity
        ),
        "",
    )


def _ours(tenant):
    found = tenant.flambeau.items(tenant.namespace, CHILDREN)
    return [
        f"{each['kind']} {each['metadata']['name']}"
        for each in found
        if each["metadata"].get("labels", {}).get("app.kubernetes.io/managed-by") == "flambeau"
    ]
