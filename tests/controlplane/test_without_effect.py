"""No field is silently ignored: what an environment cannot honour is named."""

from __future__ import annotations

import pytest

from flambeau_operator.plan.site import Site
from flambeau_operator.plan.without_effect import on_kubernetes, on_one_machine
from tests.builders import a_deployment


@pytest.mark.parametrize(
    ("spec", "paths"),
    [
        pytest.param({}, [], id="nothing but models"),
        pytest.param({"replicas": 3, "suspend": False}, [], id="what has its effect"),
        pytest.param({"resources": {}, "scheduling": {}}, [], id="what says nothing"),
        pytest.param(
            {"resources": {"limits": {"cpu": 1}}, "scheduling": {"nodeSelector": {"a": "b"}}},
            ["spec.resources.limits", "spec.scheduling"],
            id="what a machine has no use for",
        ),
        pytest.param(
            {"autoscaling": {"hpa": {"max": 3}}}, ["spec.autoscaling"], id="an autoscaler"
        ),
        pytest.param(
            {"podTemplate": {"spec": {"hostNetwork": True}}}, ["spec.podTemplate"], id="a patch"
        ),
        pytest.param(
            {"runtime": {"image": "mine:1", "pullPolicy": "Always", "config": {"a": "1"}}},
            ["spec.runtime.image", "spec.runtime.pullPolicy"],
            id="an image, though not its configuration",
        ),
        pytest.param(
            {"service": {"type": "NodePort", "port": 90, "annotations": {"a": "b"}}},
            ["spec.service.type", "spec.service.port", "spec.service.annotations"],
            id="a Service",
        ),
        pytest.param(
            {"disruption": {"podDisruptionBudget": "None", "drainDelay": "1s"}},
            ["spec.disruption.podDisruptionBudget"],
            id="a budget, though not the drain delay",
        ),
    ],
)
def test_on_one_machine(spec, paths):
    said = on_one_machine(a_deployment(**spec).spec)
    assert [each.split(" ")[0] for each in said] == paths


def test_every_field_with_a_default_is_left_out_when_it_is_written_down():
    written = {
        "networkPolicy": "Managed",
        "service": {"type": "ClusterIP", "port": 80, "annotations": {}},
        "runtime": {"pullPolicy": "IfNotPresent"},
        "disruption": {"podDisruptionBudget": "Auto"},
    }
    assert on_one_machine(a_deployment(**written).spec) == ()


IMAGE = {"storage": {"modelStore": {"image": {"reference": "models:1"}}}}
QUEUE = {"scheduling": {"queueName": "team-a"}}


@pytest.mark.parametrize(
    ("spec", "site", "path"),
    [
        pytest.param(IMAGE, {}, "spec.storage.modelStore.image", id="image volumes"),
        pytest.param(QUEUE, {}, "spec.scheduling.queueName", id="Kueue"),
        pytest.param(IMAGE, {"image_volumes_served": True}, None, id="image volumes are served"),
        pytest.param(QUEUE, {"queues_served": True}, None, id="Kueue is there"),
        pytest.param({}, {}, None, id="nothing is asked of either"),
    ],
)
def test_on_kubernetes(spec, site, path):
    said = on_kubernetes(a_deployment(**spec).spec, Site("flambeau-system", "runtime:1", **site))
    assert [each.split(" ")[0] for each in said] == ([path] if path else [])
