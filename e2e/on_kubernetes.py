"""The suite that every Cluster passes, on Kubernetes: `pytest e2e/on_kubernetes.py`.

Pods are asked by their addresses, so it runs inside the cluster's network: `test_cluster_contract`
takes it there. `CONTRACT_KUBECONFIG` names the cluster and `CONTRACT_KUBECTL` its kubectl.
"""

import asyncio
import contextlib
import json
import os
import secrets
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from tests.contract.cluster_suite import ClusterContract, World

from e2e.operator_process import IMAGE
from flambeau_operator.doors import Key
from flambeau_operator.kubernetes.client import Api, configuration
from flambeau_operator.kubernetes.cluster import KubernetesCluster
from flambeau_operator.kubernetes.following import Following
from flambeau_operator.plan.site import Site
from flambeau_operator.runtime_client import HttpRuntimeClient, Signer

pytestmark = pytest.mark.timeout(300)

KUBECONFIG = Path(os.environ["CONTRACT_KUBECONFIG"])
KUBECTL = os.environ["CONTRACT_KUBECTL"]


class TestOnKubernetes(ClusterContract):
    @pytest.fixture
    def world_of(self):
        return on_kubernetes


@contextlib.asynccontextmanager
async def on_kubernetes():
    def clock():
        return datetime.now(UTC)

    key = Key(f"contract-{secrets.token_hex(4)}", "vision")
    signer = Signer(Ed25519PrivateKey.generate(), clock)
    await kubectl("create", "namespace", key.namespace)
    async with (
        Api(await configuration(KUBECONFIG)) as api,
        HttpRuntimeClient(signer) as runtimes,
        following(api, key.namespace) as pods_of,
    ):
        cluster = KubernetesCluster(
            api,
            site=Site(operator_namespace="default", default_image=IMAGE),
            public_keys=[signer.public_key],
            pods_of=pods_of,
            clock=clock,
        )

        async def create(body):
            await kubectl("-n", key.namespace, "apply", "-f", "-", given=json.dumps(body))

        async def delete(gone):
            words = ["delete", f"mdep/{gone.name}", "--cascade=foreground", "--timeout=60s"]
            await kubectl("-n", gone.namespace, *words)

        yield World(cluster, runtimes, create, delete, key, patience_s=120)
    await kubectl("delete", "namespace", key.namespace, "--wait=false")


@contextlib.asynccontextmanager
async def following(api, namespace):
    watching = Following(api, [namespace], changed=lambda _key: None, dice=lambda: 0.5)
    task = asyncio.create_task(watching.run())
    try:
        await watching.until_synced()
        yield watching.pods_of
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def kubectl(*words, given=""):
    process = await asyncio.create_subprocess_exec(
        KUBECTL,
        f"--kubeconfig={KUBECONFIG}",
        *words,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    said, _ = await process.communicate(given.encode())
    assert process.returncode == 0, said.decode()
