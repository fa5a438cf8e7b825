"""What any Cluster owes the operator's core: one suite for every implementation.

A test class takes it over and says with a fixture `world_of` how its cluster is had.
"""

import asyncio
from dataclasses import dataclass

import pytest

from flambeau_operator.doors import Key, Ref
from flambeau_operator.errors import Conflict
from flambeau_operator.plan.children import Children, desired_children
from flambeau_operator.plan.plan import Event
from flambeau_operator.resources.deployment_status import status_from_json
from flambeau_operator.resources.model_deployment import parse
from flambeau_operator.resources.pod_state import (
    Document,
    ModelEntry,
    Owner,
    SourceEntry,
    VersionEntry,
)


def manifest(replicas=1, **config):
    """Return a ModelDeployment whose pods are ready whether its model is there or not."""
    source = {"uri": "file:///models/m-1.0.mar"}
    model = {"name": "m", "version": "1.0", "source": source, "timeouts": {"response": "1s"}}
    return {
        "apiVersion": "serving.flambeau.dev/v1alpha1",
        "kind": "ModelDeployment",
        "metadata": {"name": "vision"},
        "spec": {
            "replicas": replicas,
            "runtime": {"config": config},
            "models": [model | {"required": False}],
            "disruption": {"drainDelay": "100ms", "terminationGracePeriod": "5s"},
        },
    }


HERE = Key("default", "vision")


@dataclass
class World:
    """A cluster, what its users can do, and a client that its pods accept."""

    cluster: object
    runtimes: object
    create: object
    delete: object
    key: Key = HERE
    patience_s: float = 20

    async def ref(self) -> Ref:
        metadata = (await self.cluster.read_deployment(self.key))["metadata"]
        return Ref(self.key, metadata["uid"], metadata["resourceVersion"])

    async def children(self) -> Children:
        return desired_children(parse(await self.cluster.read_deployment(self.key)))

    async def serve(self, body) -> Ref:
        """Create an object with a committed set and ask for its pods."""
        await self.create(body)
        ref = await self.ref()
        if await self.cluster.read_committed(ref) is None:
            await self.cluster.commit(ref, document(ref))
        await self.cluster.apply_children(ref, await self.children())
        return ref

    async def pods(self, ref, condition):
        """Return the pods once they are as the condition says."""
        async with asyncio.timeout(self.patience_s):
            while True:
                if condition(pods := await self.cluster.list_pods(ref)):
                    return pods
                await asyncio.sleep(0.02)


def document(ref, sequence=1, version="1.0") -> Document:
    entry = VersionEntry(version, SourceEntry(f"file:///models/m-{version}.mar"))
    owner = Owner(ref.key.namespace, ref.key.name, ref.uid)
    model = ModelEntry("m", version, (entry,), required=False)
    return Document(owner, sequence, 1, (model,))


def running(count):
    return lambda pods: len(pods) == count and all(pod.running for pod in pods)


def ready(count):
    return lambda pods: len(pods) == count and all(pod.ready for pod in pods)


class ClusterContract:
    """The suite; `world_of()` is a context in which there is a World."""

    async def test_an_object_nobody_made_is_none(self, world_of):
        async with world_of() as world:
            nobody = Ref(Key(world.key.namespace, "nobody"), "no-such-uid", "1")
            assert await world.cluster.read_deployment(nobody.key) is None
            assert await world.cluster.list_pods(nobody) == ()
            assert await world.cluster.read_committed(nobody) is None

    async def test_an_object_has_an_identity_and_each_spec_a_generation(self, world_of):
        async with world_of() as world:
            await world.create(manifest())
            first = (await world.cluster.read_deployment(world.key))["metadata"]
            await world.create(manifest(replicas=2))
            second = (await world.cluster.read_deployment(world.key))["metadata"]
        assert first["uid"] == second["uid"]
        assert (first["generation"], second["generation"]) == (1, 2)
        assert first["resourceVersion"] != second["resourceVersion"]

    async def test_a_status_is_read_as_it_was_written_and_moves_the_version_only(self, world_of):
        status = status_from_json({"observedGeneration": 1, "sequence": 4, "summary": "m@1.0"})
        async with world_of() as world:
            await world.create(manifest())
            ref = await world.ref()
            version = await world.cluster.write_status(ref, status)
            body = await world.cluster.read_deployment(world.key)
        assert status_from_json(body["status"]) == status
        assert body["metadata"]["resourceVersion"] == version != ref.resource_version
        assert body["metadata"]["generation"] == 1

    @pytest.mark.parametrize(
        "meanwhile",
        [
            pytest.param("edited", id="the spec was edited"),
            pytest.param("reported", id="another pass wrote its status"),
            pytest.param("recreated", id="the object was deleted and made again"),
            pytest.param("deleted", id="the object was deleted"),
        ],
    )
    async def test_a_status_meant_for_what_was_read_earlier_is_refused(self, world_of, meanwhile):
        async with world_of() as world:
            await world.create(manifest())
            ref = await world.ref()
            if meanwhile == "edited":
                await world.create(manifest(replicas=2))
            elif meanwhile == "reported":
                await world.cluster.write_status(ref, status_from_json({"sequence": 1}))
            else:
                await world.delete(world.key)
            if meanwhile == "recreated":
                await world.create(manifest())
            with pytest.raises(Conflict):
                await world.cluster.write_status(ref, status_from_json({"sequence": 9}))
            body = await world.cluster.read_deployment(world.key)
            assert body is None or body["status"].get("sequence") != 9

    async def test_the_committed_set_is_read_as_it_was_written(self, world_of):
        async with world_of() as world:
            await world.create(manifest())
            ref = await world.ref()
            assert await world.cluster.read_committed(ref) is None
            for wanted in (document(ref), document(ref, 2, "2.0")):
                await world.cluster.commit(ref, wanted)
                assert await world.cluster.read_committed(ref) == wanted

    async def test_nothing_is_written_for_an_object_that_is_gone(self, world_of):
        async with world_of() as world:
            await world.create(manifest())
            ref, children = await world.ref(), await world.children()
            await world.delete(world.key)
            with pytest.raises(Conflict):
                await world.cluster.commit(ref, document(ref))
            with pytest.raises(Conflict):
                await world.cluster.apply_children(ref, children)
            await world.cluster.emit(ref, [Event("Normal", "Serving", "m@1.0 serves")])

    async def test_pods_are_made_for_the_object_and_boot_from_the_committed_set(self, world_of):
        async with world_of() as world:
            ref = await world.serve(manifest(replicas=2))
            pods = await world.pods(ref, ready(2))
            states = [await world.runtimes.get_state(pod) for pod in pods]
            committed = await world.cluster.read_committed(ref)
            template = (await world.children()).template
        assert [state.desired for state in states] == [committed, committed]
        assert {pod.owner_uid for pod in pods} == {ref.uid}
        assert {pod.template_hash for pod in pods} == {template.template_hash}
        assert [pod.name for pod in pods] == sorted({pod.name for pod in pods})
        assert len({pod.uid for pod in pods}) == 2

    async def test_no_pod_starts_before_there_is_something_to_boot_from(self, world_of):
        async with world_of() as world:
            await world.create(manifest())
            ref = await world.ref()
            await world.cluster.apply_children(ref, await world.children())
            assert await world.cluster.list_pods(ref) == ()
            await world.cluster.commit(ref, document(ref))
            await world.cluster.apply_children(ref, await world.children())
            await world.pods(ref, running(1))

    async def test_asking_for_what_is_there_changes_nothing(self, world_of):
        async with world_of() as world:
            ref = await world.serve(manifest(replicas=2))
            before = await world.pods(ref, running(2))
            outcomes = await world.cluster.apply_children(ref, await world.children())
            assert not any(outcome.failed for outcome in outcomes)
            assert [pod.uid for pod in await world.cluster.list_pods(ref)] == [
                pod.uid for pod in before
            ]

    async def test_scaling_down_takes_pods_away_and_starts_none(self, world_of):
        async with world_of() as world:
            ref = await world.serve(manifest(replicas=3))
            before = await world.pods(ref, ready(3))
            await world.serve(manifest(replicas=1))
            after = await world.pods(ref, running(1))
            assert after[0].uid in {pod.uid for pod in before}
            await world.serve(manifest(replicas=0))
            await world.pods(ref, lambda pods: not pods)

    async def test_another_template_replaces_every_pod(self, world_of):
        async with world_of() as world:
            ref = await world.serve(manifest(replicas=2))
            before = {pod.uid for pod in await world.pods(ref, running(2))}
            await world.serve(manifest(replicas=2, job_queue_size="50"))
            wanted = (await world.children()).template.template_hash

            def replaced(pods):
                return running(2)(pods) and {pod.template_hash for pod in pods} == {wanted}

            after = await world.pods(ref, replaced)
            assert before.isdisjoint(pod.uid for pod in after)
