"""GPUs that the node declares: scheduled by Kubernetes, given to workers by the runtime."""

import json

import pytest

from e2e.flambeau import echo, identity
from e2e.waiting import until

pytestmark = pytest.mark.timeout(420)


@pytest.fixture
def gpus(two_nodes):
    """Let the nodes declare accelerators: four on the first, none on the others."""
    nodes = two_nodes.run("get", "nodes", "-o", "name").split()

    def declare(count):
        patch = [{"op": "add", "path": "/status/capacity/nvidia.com~1gpu", "value": str(count)}]
        two_nodes.run(
            "patch", nodes[0], "--subresource=status", "--type=json", f"-p={json.dumps(patch)}"
        )

    declare(4)
    yield nodes[0]
    remove = [{"op": "remove", "path": "/status/capacity/nvidia.com~1gpu"}]
    two_nodes.run(
        "patch", nodes[0], "--subresource=status", "--type=json", f"-p={json.dumps(remove)}"
    )


def on_gpus(count, *, replicas, workers=2, **spec):
    """Return a deployment whose pods want GPUs; no driver is here, so FLAMBEAU_DEVICES counts."""
    devices = [{"name": "FLAMBEAU_DEVICES", "value": str(count)}]
    patch = {"spec": {"containers": [{"name": "runtime", "env": devices}]}}
    resources = {"requests": {"cpu": "50m"}, "limits": {"nvidia.com/gpu": str(count)}}
    return echo(
        "device", workers=workers, replicas=replicas, resources=resources, podTemplate=patch, **spec
    )


@pytest.mark.usefixtures("gpus")
def test_each_worker_has_a_device_of_its_own(tenant, archives):
    tenant.apply(archives("device"), on_gpus(2, replicas=2))
    tenant.wait("RolledOut")
    for pod in tenant.pods():
        ask = "import urllib.request as r; print(r.urlopen('http://127.0.0.1:8081/models/echo').read().decode())"
        described = json.loads(
            tenant.kubectl("exec", pod["metadata"]["name"], "--", "python3", "-c", ask)
        )
        devices = {each["gpuUsage"].split()[0] for each in described[0]["workers"]}
        assert devices == {"gpuId::0", "gpuId::1"}


@pytest.mark.usefixtures("gpus")
def test_what_finds_no_gpu_says_so_in_the_schedulers_words(tenant, archives):
    tenant.apply(archives("device"), on_gpus(3, replicas=1, workers=3))
    tenant.wait("RolledOut")
    before = identity(tenant.pods())
    tenant.apply(on_gpus(3, replicas=2, workers=3))

    def unschedulable():
        found = tenant.condition("PodsAvailable")
        return found if found.get("reason") == "Unschedulable" else None

    found = until("the scheduler's words", unschedulable)
    assert found["status"] == "False"
    assert "Insufficient nvidia.com/gpu" in found["message"]
    assert tenant.condition("Ready")["status"] == "True"
    assert identity(tenant.pods()) > before


@pytest.mark.usefixtures("gpus")
def test_a_full_node_rolls_without_a_dead_lock(tenant, archives, load):
    tenant.apply(archives("device"), on_gpus(2, replicas=2))
    tenant.wait("RolledOut")
    before = {pod["metadata"]["uid"] for pod in tenant.pods()}
    with load(tenant.url()) as asking:
        tenant.apply(on_gpus(2, replicas=2, runtime={"config": {"job_queue_size": "150"}}))
        tenant.generation_seen()
        tenant.wait("RolledOut", within_s=180)
    assert not asking.summary.failed, asking.summary
    assert not before & {pod["metadata"]["uid"] for pod in tenant.pods()}
