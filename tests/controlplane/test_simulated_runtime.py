"""The simulated runtime keeps what the real one promises: the histories stand on it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from flambeau_operator.resources.pod_state import (
    Document,
    ModelEntry,
    Owner,
    ShadowEntry,
    Swap,
    VersionPhase,
)
from tests.builders import UID, archive
from tests.controlplane.simulated_pods import World, entry
from tests.controlplane.simulated_runtime import (
    BOUNDS_MS,
    MIB,
    WELL_BEHAVED,
    Conduct,
    FenceBroken,
    SimulatedPod,
)

OLD, NEW = "1.0", "2.0"


def document(sequence, default, *versions, **model):
    entries = (ModelEntry("classifier", default, versions, **model),)
    return Document(Owner("default", "vision", UID), sequence, 1, entries)


def a_pod(*documents, conduct=None, **options):
    """A pod that has come to rest with each of these documents."""
    pod = SimulatedPod("pod", "template", **options)
    pod.boot(documents[0])
    rest(pod, conduct)
    for each in documents[1:]:
        pod.put(each)
        rest(pod, conduct)
    return pod


def rest(pod, conduct=None, steps=16):
    for _ in range(steps):
        pod.advance(behaving(conduct))


def behaving(conduct=None):
    return lambda uri: (conduct or {}).get(uri, WELL_BEHAVED)


def serve(pod, requests, conduct=None):
    return pod.serve("classifier", requests, behaving(conduct))


def window(pod, version=NEW):
    return pod.state().version("classifier", version).window


CANARY = document(2, OLD, entry(OLD), entry(NEW, weight=10), window="h.0")


def test_a_weight_counts_only_for_a_version_that_is_ready():
    pod = a_pod(document(1, OLD, entry(OLD)))
    pod.put(CANARY)
    assert serve(pod, 100) == {OLD: 100}
    rest(pod)
    assert serve(pod, 100) == {OLD: 90, NEW: 10}


def test_a_canary_gets_its_share_of_few_requests_in_the_long_run():
    pod = a_pod(document(1, OLD, entry(OLD)), CANARY)
    assert sum(serve(pod, 3).get(NEW, 0) for _ in range(100)) == 30


def test_after_a_boot_no_candidate_has_a_weight_until_the_next_put():
    pod = a_pod(document(1, OLD, entry(OLD)), CANARY)
    pod.boot(None)
    rest(pod)
    assert pod.state().cautious
    assert pod.phase("classifier", NEW) is VersionPhase.READY
    assert serve(pod, 100) == {OLD: 100}
    pod.put(replace(CANARY, sequence=3))
    assert not pod.state().cautious
    assert serve(pod, 100)[NEW] == 10


def test_another_window_and_a_boot_begin_to_count_anew():
    pod = a_pod(document(1, OLD, entry(OLD)), CANARY)
    serve(pod, 200)
    assert (window(pod).id, window(pod).requests) == ("h.0", 20)
    pod.put(document(3, OLD, entry(OLD), entry(NEW, weight=50), window="h.1"))
    assert (window(pod).id, window(pod).requests) == ("h.1", 0)
    serve(pod, 200)
    assert window(pod).requests == 100
    pod.boot(None)
    rest(pod)
    assert window(pod).requests == 0


def test_what_a_version_does_is_in_its_window():
    conduct = {archive("classifier", NEW): Conduct(errs=0.1, kills_worker=0.05, latency_ms=80)}
    pod = a_pod(document(1, OLD, entry(OLD)), CANARY, conduct=conduct)
    serve(pod, 2000, conduct)
    told = window(pod)
    assert (told.requests, told.errors, told.restarts) == (200, 30, 10)
    assert sum(told.latency.counts) == 200
    assert (
        max(told.latency.counts)
        == told.latency.counts[BOUNDS_MS.index(min(b for b in BOUNDS_MS if b >= 80))]
    )


def test_copies_are_counted_and_compared_beside_the_requests():
    conduct = {archive("classifier", NEW): Conduct(differs=0.5)}
    shadowed = document(2, OLD, entry(OLD), entry(NEW), shadow=ShadowEntry(NEW, 20), window="h.0")
    pod = a_pod(document(1, OLD, entry(OLD)), shadowed, conduct=conduct)
    assert serve(pod, 100, conduct) == {OLD: 100}
    told = window(pod)
    assert (told.requests, told.copies, told.compared, told.different) == (0, 20, 20, 10)


def test_the_old_default_answers_until_the_new_one_is_ready():
    pod = a_pod(document(1, OLD, entry(OLD)))
    pod.put(document(2, NEW, entry(NEW)))
    for _ in range(4):
        assert pod.ready()
        assert serve(pod, 10) == {OLD: 10}
        pod.advance(behaving())
    rest(pod)
    assert serve(pod, 10) == {NEW: 10}
    assert pod.phase("classifier", OLD) is None


@pytest.mark.parametrize("back", [False, True], ids=["forth", "and back again"])
def test_worker_by_worker_there_are_never_more_workers_than_wanted(back):
    steps = [(4, 0), (3, 1), (2, 2), (0, 4)]
    pod = a_pod(document(1, OLD, entry(OLD, workers=4)))
    for sequence, (old, new) in enumerate(steps[1:] + (steps[::-1] if back else []), start=2):
        versions = (entry(OLD, workers=old), entry(NEW, workers=new))
        default = NEW if old == 0 else OLD
        pod.put(document(sequence, default, *versions, swap=Swap.WORKER_BY_WORKER))
        for _ in range(16):
            pod.advance(behaving())
            assert sum(each.workers for each in pod.loaded.values()) <= 4
            assert pod.ready()
        assert [pod.loaded["classifier", v].workers for v in (OLD, NEW)] == [old, new]


def test_one_after_the_other_a_pod_leaves_the_service_before_its_old_version_goes():
    pod = a_pod(document(1, OLD, entry(OLD)), drain_steps=2)
    pod.put(document(2, NEW, entry(NEW), swap=Swap.RECREATE))
    assert not pod.ready()
    assert serve(pod, 10) == {OLD: 10}
    seen = []
    for _ in range(16):
        pod.advance(behaving())
        assert not {OLD, NEW} <= {version for _, version in pod.loaded}
        seen.append(pod.ready())
    assert seen == sorted(seen), "unready, then ready"
    assert pod.ready()
    assert serve(pod, 10) == {NEW: 10}


def test_a_version_that_does_not_fit_beside_the_old_one_is_not_loaded():
    sizes = {archive("classifier", each): Conduct(worker_bytes=300 * MIB) for each in (OLD, NEW)}
    pod = a_pod(document(1, OLD, entry(OLD)), CANARY, conduct=sizes, limit_bytes=500 * MIB)
    state = pod.state(behaving(sizes)).version("classifier", NEW)
    assert state.phase is VersionPhase.FAILED
    assert state.failure.reason == "InsufficientMemory"
    pod = a_pod(
        document(1, OLD, entry(OLD)),
        document(2, NEW, entry(NEW), swap=Swap.RECREATE),
        conduct=sizes,
        limit_bytes=500 * MIB,
    )
    assert pod.ready()


def test_the_fence_refuses_what_is_older_or_other():
    pod = a_pod(document(5, OLD, entry(OLD)))
    for stale in (document(4, OLD, entry(OLD)), document(5, NEW, entry(NEW))):
        with pytest.raises(FenceBroken):
            pod.put(stale)
    assert not pod.refuses(document(5, OLD, entry(OLD)))


def test_requests_find_only_pods_that_are_ready():
    world = World({"spec": {"models": [{"name": "classifier"}]}}, rate=10)
    world.pods["a"] = a_pod(document(1, OLD, entry(OLD)))
    world.pods["b"] = SimulatedPod("b", "template")
    world.wait(3)
    assert world.answered == {("classifier", OLD): 30}
    del world.pods["a"]
    world.wait(3)
    assert world.lost == 30
