"""The clusters that need no Kubernetes, held to what any Cluster owes the operator's core."""

import contextlib
import sys
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from flambeau_operator.local.cluster import LocalCluster
from flambeau_operator.local.wards import Guard
from flambeau_operator.runtime_client import HttpRuntimeClient, Signer
from tests.contract.cluster_suite import ClusterContract, World, manifest, ready, running
from tests.fakes import FakeCluster

pytestmark = [pytest.mark.process, pytest.mark.timeout(60)]

STANDIN = (sys.executable, str(Path(__file__).parents[1] / "standin_runtime.py"))


class OldestStay(ClusterContract):
    """More than the suite asks for: these name their pods in the order in which they started."""

    async def test_scaling_down_keeps_the_oldest_of_the_ready_pods(self, world_of):
        async with world_of() as world:
            ref = await world.serve(manifest(replicas=3))
            before = await world.pods(ref, ready(3))
            await world.serve(manifest(replicas=1))
            after = await world.pods(ref, running(1))
            assert after[0].uid == before[0].uid


class TestInMemory(OldestStay):
    @pytest.fixture
    def world_of(self):
        return in_memory


class TestOnThisMachine(OldestStay):
    @pytest.fixture
    def world_of(self, tmp_path):
        return partial(on_this_machine, tmp_path)


@contextlib.asynccontextmanager
async def in_memory():
    cluster = FakeCluster()
    yield World(cluster, cluster.runtimes, cluster.create, cluster.delete)


@contextlib.asynccontextmanager
async def on_this_machine(folder):
    def clock():
        return datetime.now(UTC)

    signer = Signer(Ed25519PrivateKey.generate(), clock)
    async with (
        Guard() as guard,
        HttpRuntimeClient(signer) as runtimes,
        LocalCluster(
            folder,
            runtimes=runtimes,
            public_key=signer.public_key,
            clock=clock,
            wards=guard,
            changed=lambda _key: None,
            command=STANDIN,
        ) as cluster,
    ):

        async def create(body):
            return await cluster.apply(body, port=0)

        yield World(cluster, runtimes, create, cluster.delete)
