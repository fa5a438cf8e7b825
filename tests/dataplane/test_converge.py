"""From wish to fact, against a fleet and a store without processes or files."""

import asyncio
from dataclasses import replace

import pytest
from hypothesis import given, settings, strategies as st

from flambeau_runtime.errors import (
    ArchiveInvalid,
    DigestMismatch,
    LoadFailed,
    ModelNotFound,
    ModelNotReady,
    SourceUnavailable,
    VersionNotFound,
)
from flambeau_runtime.serving.desired import Source, WarmupRequest
from tests.dataplane.fake_fleet import World, document, version

ONE, TWO = version("1.0"), version("2.0")
WARM = (WarmupRequest("[1]", repeat=3),)


@pytest.fixture
async def world():
    world = World()
    async with world.converger:
        yield world


async def test_a_wanted_version_is_fetched_loaded_and_answers(world):
    await world.wants(ONE)
    assert world.answering() == world.answering("1.0") == "1.0"
    assert world.seen("1.0").weight == 100
    assert world.catalogue.report().ready


async def test_phases_are_seen_one_after_the_other(world):
    world.store.progress = ((5, 10), (10, 10))
    gate = world.store.gates[ONE.source.uri] = asyncio.Event()
    world.fleet.held.add("1.0")
    world.converger.want(document(replace(ONE, warmup=WARM)))
    assert world.phase("1.0") == "Pending"
    await world.until(lambda: world.phase("1.0") == "Fetching")
    await world.until(lambda: world.seen("1.0").fetched_bytes == world.seen("1.0").bytes == 10)
    gate.set()
    await world.loading("1.0")
    world.fleet.answer = lambda *_: None
    world.fleet.of("1.0").become_ready()
    await world.until(lambda: world.phase("1.0") == "Warming")
    del world.fleet.answer
    for job in world.fleet.of("1.0").answered:
        world.fleet.answer(world.fleet.of("1.0"), job)
    await world.until(lambda: world.phase("1.0") == "Ready")


async def test_the_old_default_answers_until_the_new_one_is_ready_and_then_leaves(world):
    await world.wants(ONE)
    world.fleet.held.add("2.0")
    world.converger.want(document(TWO))
    await world.loading("2.0")
    assert world.answering() == "1.0"
    world.fleet.of("2.0").become_ready()
    await world.until(lambda: world.answering() == "2.0")
    await world.until(lambda: world.fleet.numbers() == ["2.0"])


async def test_the_default_does_not_move_before_the_last_warmup_request_is_answered(world):
    await world.wants(ONE)
    world.fleet.answer = lambda *_: None
    world.converger.want(document(replace(TWO, warmup=WARM)))
    for count in (1, 2, 3):
        await world.until(lambda: "2.0" in world.fleet.numbers())
        await world.until(lambda n=count: len(world.fleet.of("2.0").answered) == n)
        assert world.answering() == "1.0"
        with pytest.raises(ModelNotReady, match="warmed up"):
            world.answering("2.0")
        type(world.fleet).answer(
            world.fleet, world.fleet.of("2.0"), world.fleet.of("2.0").answered[-1]
        )
    await world.until(lambda: world.answering() == "2.0")


async def test_a_failing_warmup_is_a_failure_of_the_version_and_the_old_one_answers_on(world):
    await world.wants(ONE)
    world.fleet.status = 503
    world.converger.want(document(replace(TWO, warmup=WARM)))
    with pytest.raises(LoadFailed, match=r"warm-up request 1 of 1 .* status 503") as failed:
        await world.converger.settled("vision", "2.0", 5)
    assert failed.value.reason == "WarmupFailed"
    assert world.phase("2.0") == "Failed"
    assert world.answering() == "1.0"


async def test_a_removed_version_gets_no_new_work_drains_and_is_unloaded(world):
    await world.wants(ONE, TWO)
    leaving = world.fleet.of("2.0")
    leaving.may_leave.clear()
    world.converger.want(document(ONE))
    await world.until(lambda: world.phase("2.0") == "Draining")
    with pytest.raises(VersionNotFound):
        world.answering("2.0")
    leaving.may_leave.set()
    assert await world.converger.gone("vision", "2.0", 5)
    assert world.phase("2.0") is None
    assert [path.name for path in world.store.removed] == ["vision-2.0.mar"]


async def test_a_version_that_is_wanted_again_while_it_drains_comes_back(world):
    await world.wants(ONE, TWO)
    leaving = world.fleet.of("2.0")
    leaving.may_leave.clear()
    world.converger.want(document(ONE))
    await world.until(lambda: world.phase("2.0") == "Draining")
    world.converger.want(document(ONE, TWO))
    leaving.may_leave.set()
    assert await world.converger.settled("vision", "2.0", 5)
    assert world.fleet.of("2.0") is not leaving


async def test_files_that_another_version_uses_stay(world):
    same = replace(TWO, source=ONE.source)
    await world.wants(ONE, same)
    world.converger.want(document(ONE))
    assert await world.converger.gone("vision", "2.0", 5)
    assert world.store.removed == []


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        pytest.param(SourceUnavailable("nothing there"), "FetchFailed", id="no source"),
        pytest.param(DigestMismatch("u", "a", "b"), "DigestMismatch", id="a wrong digest"),
        pytest.param(ArchiveInvalid("cut short"), "ArchiveInvalid", id="a broken archive"),
        pytest.param(ValueError("a bug"), "InternalError", id="a mistake of ours"),
    ],
)
async def test_a_failure_has_a_reason_and_the_real_message_and_blocks_nobody(world, error, reason):
    world.store.errors[TWO.source.uri] = error
    other = version("1", model="speech")
    world.converger.want(document(TWO, other))
    with pytest.raises(LoadFailed, match=str(error)) as failed:
        await world.converger.settled("vision", "2.0", 5)
    assert failed.value.reason == reason
    assert await world.converger.settled("speech", "1", 5)
    assert world.answering(model="speech") == "1"
    with pytest.raises(ModelNotReady, match=reason):
        world.answering()


async def test_a_failed_version_is_tried_again_while_it_stays_wanted_and_counts_its_attempts(world):
    world.store.errors[ONE.source.uri] = SourceUnavailable("not yet")
    world.converger.want(document(ONE))
    await world.until(lambda: world.seen("1.0").last_failure is not None)
    await world.until(lambda: world.seen("1.0").last_failure.attempts == 3)
    del world.store.errors[ONE.source.uri]
    await world.until(lambda: world.phase("1.0") == "Ready")
    assert world.seen("1.0").last_failure is None


async def test_a_version_whose_workers_cannot_load_shows_why_and_leaves_no_worker(world):
    world.fleet.broken["2.0"] = "InitializeFailed"
    await world.wants(ONE)
    world.converger.want(document(ONE, TWO))
    with pytest.raises(LoadFailed) as failed:
        await world.converger.settled("vision", "2.0", 5)
    assert (failed.value.reason, failed.value.log_tail) == ("InitializeFailed", "last words")
    await world.until(lambda: world.fleet.numbers() == ["1.0"])
    assert world.phase("2.0") == "Failed"


async def test_going_back_to_the_old_version_clears_the_failed_one(world):
    world.fleet.broken["2.0"] = "InitializeFailed"
    await world.wants(ONE)
    world.converger.want(document(TWO))
    await world.until(lambda: world.phase("2.0") == "Failed")
    world.converger.want(document(ONE))
    await world.until(lambda: world.phase("2.0") is None)
    assert world.answering() == "1.0"


async def test_a_failed_version_is_tried_at_once_when_its_wish_changes(world):
    world.converger._retry_delays_s = (3600.0,)
    world.store.errors[ONE.source.uri] = SourceUnavailable("typo")
    world.converger.want(document(ONE))
    await world.until(lambda: world.phase("1.0") == "Failed")
    await world.wants(replace(ONE, source=Source("file:///right.mar")))
    assert world.answering() == "1.0"


async def test_a_served_version_that_lost_all_its_workers_for_good_is_loaded_anew(world):
    await world.wants(ONE)
    first = world.fleet.of("1.0")
    first.break_with("WorkerDied")
    await world.until(lambda: world.fleet.numbers() == ["1.0"] and world.phase("1.0") == "Ready")
    assert world.fleet.of("1.0") is not first


async def test_a_served_version_that_lost_one_worker_of_two_stays(world):
    await world.wants(replace(ONE, workers=2))
    world.fleet.of("1.0").ready = 1
    world.fleet.announce()
    await world.until(lambda: world.seen("1.0").workers.ready == 1)
    assert world.phase("1.0") == "Ready"
    assert world.catalogue.report().ready


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"workers": 3}, id="workers"),
        pytest.param({"env": {"MODE": "b"}}, id="environment"),
        pytest.param({"queue_size": 7}, id="queue size"),
        pytest.param({"warmup": WARM}, id="warm-up"),
    ],
)
async def test_live_edits_keep_the_version_and_its_workers(world, changes):
    await world.wants(ONE)
    before = world.fleet.of("1.0")
    await world.wants(replace(ONE, **changes))
    assert world.fleet.of("1.0") is before
    assert before.applied == [replace(ONE, **changes)]
    assert world.answering() == "1.0"


async def test_a_version_without_workers_rests_and_is_warmed_whenever_it_wakes_up(world):
    await world.wants(replace(ONE, workers=0, warmup=WARM))
    assert world.fleet.of("1.0").answered == []
    for answered in (3, 6):
        await world.wants(replace(ONE, workers=1, warmup=WARM))
        assert len(world.fleet.of("1.0").answered) == answered
        await world.wants(replace(ONE, workers=0, warmup=WARM))


async def test_after_a_boot_a_candidate_is_loaded_only_once_the_default_serves(world):
    world.fleet.held.add("1.0")
    world.converger.want(document(ONE, TWO), cautious=True)
    await world.loading("1.0")
    assert world.phase("2.0") == "Pending"
    world.fleet.of("1.0").become_ready()
    await world.until(lambda: world.phase("2.0") == "Ready")


async def test_somebody_who_speaks_ends_the_caution_of_the_boot(world):
    world.fleet.held.add("1.0")
    world.converger.want(document(ONE, TWO), cautious=True)
    await world.loading("1.0")
    world.converger.want(document(ONE, TWO))
    await world.until(lambda: world.phase("2.0") == "Ready")


async def test_waiting_for_a_version_that_is_not_wanted_says_so(world):
    with pytest.raises(ModelNotFound):
        await world.converger.settled("vision", "1.0", 1)
    await world.wants(ONE)
    with pytest.raises(VersionNotFound):
        await world.converger.settled("vision", "9", 1)


async def test_waiting_ends_in_time(world):
    world.fleet.held.add("1.0")
    world.converger.want(document(ONE))
    assert not await world.converger.settled("vision", "1.0", 0.01)


async def test_leaving_ends_every_task_and_keeps_the_workers():
    world = World()
    before = asyncio.all_tasks()
    async with world.converger:
        await world.wants(ONE)
        world.store.gates[TWO.source.uri] = asyncio.Event()
        world.converger.want(document(ONE, TWO))
        await world.until(lambda: world.phase("2.0") == "Fetching")
    assert asyncio.all_tasks() == before
    assert world.fleet.numbers() == ["1.0"]
    assert world.fleet.changed == []


# the law, with everything in motion

WISHES = st.lists(
    st.tuples(
        st.lists(st.sampled_from(["1.0", "2.0", "3.0", "bad"]), min_size=1, unique=True),
        st.integers(1, 3),  # workers
        st.integers(0, 12),  # turns of the loop before the next wish
    ),
    min_size=1,
    max_size=8,
)


@settings(max_examples=80)
@given(WISHES)
async def test_a_model_that_answers_keeps_answering_and_the_last_wish_is_reached(wishes):
    world = World()
    world.fleet.broken["bad"] = "InitializeFailed"
    async with world.converger:
        await world.wants(ONE)
        for numbers, workers, turns in [*wishes, (["2.0"], 1, 0)]:
            specs = [version(number, workers=workers) for number in numbers]
            world.converger.want(document(*specs))
            for _ in range(turns):
                assert world.answering() in {"1.0", "2.0", "3.0"}
                await asyncio.sleep(0)
        assert await world.converger.settled("vision", "2.0", 5)
        await world.until(lambda: world.fleet.numbers() == ["2.0"])
        await world.until(lambda: list(world.catalogue.entries) == [("vision", "2.0")])
        assert world.answering() == "2.0"
