"""The suite that every Cluster passes, on Kubernetes: `pytest e2e/on_kubernetes.py`.

Pods are asked by their addresses, so it runs inside the cluster's network: `test_cluster_contract`
takes it there. `CONTRACT_KUBECONFIG` names the cluster and `CONTRACT_KUBECTL` its kubectl.
"""

import asyncio
import contextlib
import json
import os
import secrets
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from tests.contract.cluster_suite import ClusterContract, World, document, manifest, ready

from e2e.operator_process import IMAGE
from flambeau_operator.doors import Key, Ref
from flambeau_operator.errors import Conflict, Refused
from flambeau_operator.kubernetes.client import Api, configuration
from flambeau_operator.kubernetes.cluster import KubernetesCluster
from flambeau_operator.kubernetes.following import Following
from flambeau_operator.plan.site import Site
from flambeau_operator.resources.deployment_status import status_from_json
from flambeau_operator.runtime_client import HttpRuntimeClient, Signer

pytestmark = pytest.mark.timeout(300)

KUBECONFIG = Path(os.environ["CONTRACT_KUBECONFIG"])
KUBECTL = os.environ["CONTRACT_KUBECTL"]


class TestOnKubernetes(ClusterContract):
    @pytest.fixture
    def world_of(self):
        return on_kubernetes


async def test_an_operator_that_slept_before_it_wrote_is_refused_by_the_api_server():
    async with on_kubernetes() as world:
        await world.serve(manifest())
        sleeper = awake = await world.ref()
        await world.cluster.write_status(awake, status_from_json({"sequence": 2}))
        with pytest.raises(Conflict):
            await world.cluster.write_status(sleeper, status_from_json({"sequence": 2}))


async def test_an_operator_that_slept_before_it_told_the_pods_is_refused_by_them():
    async with on_kubernetes() as world:
        ref = await world.serve(manifest())
        (pod,) = await world.pods(ref, ready(1))
        # One writes its status and falls asleep, the other goes on from there.
        version = await world.cluster.write_status(
            await world.ref(), status_from_json({"sequence": 2})
        )
        awake = Ref(ref.key, ref.uid, version)
        await world.cluster.write_status(awake, status_from_json({"sequence": 3}))
        await world.runtimes.put_state(pod, document(ref, 3, "3.0"))
        for stale in (document(ref, 2, "2.0"), document(ref, 3, "2.0")):
            with pytest.raises(Refused) as refused:
                await world.runtimes.put_state(pod, stale)
            assert refused.value.status == 409
            assert refused.value.body["current"] == {"uid": ref.uid, "sequence": 3}
        assert (await world.runtimes.get_state(pod)).desired == document(ref, 3, "3.0")


async def test_pods_of_an_object_that_was_made_anew_do_not_hear_the_old_operator():
    async with on_kubernetes() as world:
        ref = await world.serve(manifest())
        (pod,) = await world.pods(ref, ready(1))
        stranger = replace(ref, uid="another-uid")
        with pytest.raises(Refused) as refused:
            await world.runtimes.put_state(pod, document(stranger, 9))
        assert refused.value.status == 409


async def test_an_operator_with_another_key_gets_hold_of_the_pods_that_run():
    async with on_kubernetes() as world:
        ref = await world.serve(manifest())
        (pod,) = await world.pods(ref, ready(1))
        async with on_kubernetes(world.key) as other:
            with pytest.raises(Refused) as refused:
                await other.runtimes.get_state(pod)
            assert refused.value.status == 401
            await other.cluster.apply_children(ref, await other.children())
            # The kubelet brings the changed file in, and the runtime looks at it.
            async with asyncio.timeout(120):
                while True:
                    if await answers(other, pod) == document(ref):
                        break
                    await asyncio.sleep(0.1)
            assert (await other.pods(ref, ready(1)))[0].uid == pod.uid


async def answers(world, pod):
    try:
        return (await world.runtimes.get_state(pod)).desired
    except Refused:
        return None


@contextlib.asynccontextmanager
async def on_kubernetes(taken_over=None):
    """Have a namespace for a World, or another operator's place in one."""

    def clock():
        return datetime.now(UTC)

    key = taken_over or Key(f"contract-{secrets.token_hex(4)}", "vision")
    signer = Signer(Ed25519PrivateKey.generate(), clock)
    if taken_over is None:
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
    if taken_over is None:
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
