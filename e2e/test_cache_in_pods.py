"""Pods that share a volume fetch what has a digest once."""

import hashlib

import pytest
from tests.archives import write_archive

from e2e.flambeau import TINY, archives_of, echo
from e2e.waiting import until

pytestmark = pytest.mark.timeout(300)

RESTRICTED = {
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
    "runAsNonRoot": True,
    "seccompProfile": {"type": "RuntimeDefault"},
}


def volume(name, namespace, folder):
    """Return a folder of the node as a volume that many pods may write, and the claim to it."""
    size = {"storage": "1Gi"}
    claim = {"namespace": namespace, "name": "cache"}
    common = {"accessModes": ["ReadWriteMany"], "storageClassName": ""}
    return (
        {
            "apiVersion": "v1",
            "kind": "PersistentVolume",
            "metadata": {"name": name},
            "spec": {
                **common,
                "capacity": size,
                "claimRef": claim,
                "hostPath": {"path": str(folder)},
                "persistentVolumeReclaimPolicy": "Retain",
            },
        },
        {
            "apiVersion": "v1",
            "kind": "PersistentVolumeClaim",
            "metadata": {"name": "cache"},
            "spec": {**common, "resources": {"requests": size}, "volumeName": name},
        },
    )


def store():
    """Return a pod that serves the ConfigMap `archives` over HTTP and logs each request."""
    labels = {"app": "store"}
    server = {
        "name": "store",
        "image": TINY,
        "command": ["python3", "-u", "-m", "http.server", "8000", "--directory", "/archives"],
        "securityContext": RESTRICTED,
        "volumeMounts": [{"name": "archives", "mountPath": "/archives"}],
    }
    spec = {
        "containers": [server],
        "terminationGracePeriodSeconds": 0,
        "volumes": [{"name": "archives", "configMap": {"name": "archives"}}],
    }
    ports = [{"port": 8000}]
    meta = {"name": "store", "labels": labels}
    return (
        {"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": spec},
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": "store"},
            "spec": {"selector": labels, "ports": ports},
        },
    )


@pytest.fixture
def shared(tenant, tmp_path):
    """A folder of the node that every user may write, as a claim in the tenant's namespace."""
    folder = tmp_path / "cache"
    folder.mkdir(mode=0o777)
    folder.chmod(0o777)
    for parent in folder.parents:
        if parent.is_relative_to(tmp_path.parents[1]):
            parent.chmod(0o755)
    name = f"cache-{tenant.namespace}"
    tenant.apply(*volume(name, tenant.namespace, folder))
    yield folder
    tenant.cluster.run("delete", "persistentvolume", name, "--wait=false")


def test_two_pods_with_one_cache_fetch_an_archive_once(tenant, tmp_path, shared):
    file = write_archive(tmp_path, "1.0")
    tenant.apply(archives_of("archives", {file.name: file}), *store())
    tenant.kubectl("wait", "pod/store", "--for=condition=Ready", "--timeout=60s", timeout_s=70)
    source = {
        "uri": f"http://store.{tenant.namespace}.svc:8000/{file.name}",
        "digest": f"sha256:{hashlib.sha256(file.read_bytes()).hexdigest()}",
    }
    served = echo(
        replicas=2,
        configMaps=None,
        storage={"cache": {"persistentVolumeClaim": {"claimName": "cache"}}},
    )
    served["spec"]["models"][0]["source"] = source
    tenant.apply(served)
    tenant.wait("RolledOut")
    pods = [pod["metadata"]["name"] for pod in tenant.pods()]
    assert len(pods) == 2
    assert any(shared.rglob("*.json")), "the cache is not the volume"

    def fetched():
        return tenant.kubectl("logs", "pod/store").count(f'"GET /{file.name}')

    until("the log of the store is there", lambda: fetched() > 0)
    assert fetched() == 1
