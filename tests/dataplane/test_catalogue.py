"""Which version takes a request, what an observer sees, and when it is told."""

import asyncio
from dataclasses import replace

import pytest

from flambeau_runtime.errors import (
    DefaultVersionProtected,
    ModelNotFound,
    ModelNotReady,
    VersionExists,
    VersionNotFound,
)
from flambeau_runtime.serving import edits
from flambeau_runtime.serving.catalogue import Catalogue
from flambeau_runtime.serving.desired import Document, Source, WarmupRequest
from tests.dataplane.fake_fleet import DIGEST, OWNER, World, document, version

ONE, TWO = version("1.0"), version("2.0")


@pytest.fixture
async def world():
    world = World()
    async with world.converger:
        yield world


# routes


async def test_a_named_version_never_falls_back_to_another(world):
    await world.wants(ONE, TWO)
    assert world.answering("2.0") == "2.0"
    with pytest.raises(VersionNotFound):
        world.answering("3.0")


async def test_before_it_has_begun_a_model_may_still_become_known():
    catalogue = Catalogue(waits_for_document=True)
    with pytest.raises(ModelNotReady, match="this runtime does not know all of its models"):
        catalogue.route("vision")
    catalogue.begin()
    with pytest.raises(ModelNotFound):
        catalogue.route("vision")


async def test_an_unknown_model_is_not_found(world):
    with pytest.raises(ModelNotFound):
        world.answering(model="nobody")


async def test_a_version_that_is_fetched_says_so(world):
    world.store.gates[ONE.source.uri] = asyncio.Event()
    world.converger.want(document(ONE))
    await world.until(lambda: world.phase("1.0") == "Fetching")
    with pytest.raises(ModelNotReady, match="is being fetched"):
        world.answering()


async def test_a_model_without_a_default_names_its_versions(world):
    await world.wants(ONE, default=None)
    assert world.answering("1.0") == "1.0"
    with pytest.raises(ModelNotReady, match=r"name one of: 1\.0"):
        world.answering()


async def test_requests_may_queue_for_a_first_version_that_loads(world):
    world.fleet.held.add("1.0")
    world.converger.want(document(ONE))
    await world.loading("1.0")
    assert world.answering() == "1.0"


async def test_requests_may_not_queue_before_the_warmup(world):
    world.fleet.held.add("1.0")
    world.converger.want(document(replace(ONE, warmup=(WarmupRequest("1"),))))
    await world.loading("1.0")
    with pytest.raises(ModelNotReady, match="is being loaded"):
        world.answering()


async def test_a_draining_version_is_seen_until_it_is_gone(world):
    await world.wants(ONE)
    world.fleet.of("1.0").may_leave.clear()
    leaving = world.fleet.of("1.0")
    world.converger.want(document())
    await world.until(lambda: world.phase("1.0") == "Draining")
    with pytest.raises(ModelNotFound):
        world.answering()
    leaving.may_leave.set()
    await world.until(lambda: world.catalogue.report().models == ())


# what is seen


async def test_readiness_wants_every_required_model(world):
    speech = version("1", model="speech")
    world.store.gates[speech.source.uri] = asyncio.Event()
    world.converger.want(document(ONE, speech))
    await world.until(lambda: world.phase("1.0") == "Ready")
    assert not world.catalogue.report().ready
    world.store.gates[speech.source.uri].set()
    await world.until(lambda: world.catalogue.report().ready)


async def test_readiness_does_not_wait_for_a_model_that_is_not_required(world):
    speech = version("1", model="speech")
    world.store.gates[speech.source.uri] = asyncio.Event()
    wanted = document(ONE, speech)
    vision, other = wanted.models
    world.converger.want(replace(wanted, models=(vision, replace(other, required=False))))
    await world.until(lambda: world.phase("1.0") == "Ready")
    assert world.catalogue.report().ready


async def test_readiness_waits_for_every_wanted_worker_at_first_and_keeps_on_with_one(world):
    world.fleet.held.add("1.0")
    world.converger.want(document(replace(ONE, workers=2)))
    await world.loading("1.0")
    live = world.fleet.of("1.0")
    live.ready = 1
    world.fleet.announce()
    await world.until(lambda: world.seen("1.0").workers.ready == 1)
    assert not world.catalogue.report().ready
    live.become_ready()
    await world.until(lambda: world.catalogue.report().ready)
    live.ready = 1
    world.fleet.announce()
    await world.until(lambda: world.seen("1.0").workers.ready == 1)
    assert world.catalogue.report().ready
    live.ready = 0
    world.fleet.announce()
    await world.until(lambda: not world.catalogue.report().ready)


async def test_a_model_wanted_without_workers_holds_nobody_up_and_is_not_ready(world):
    await world.wants(replace(ONE, workers=0))
    report = world.catalogue.report()
    assert report.ready
    assert not report.models[0].ready


async def test_a_draining_runtime_is_not_ready_and_still_answers(world):
    await world.wants(ONE)
    world.catalogue.start_draining()
    assert (world.catalogue.report().ready, world.catalogue.report().draining) == (False, True)
    assert world.answering() == "1.0"


async def test_a_managed_runtime_is_not_ready_before_its_first_document(world):
    world.catalogue._waits_for_document = True
    assert not world.catalogue.report().ready
    await world.wants(ONE, owner=OWNER)
    assert world.catalogue.report().ready


async def test_the_weight_follows_the_default(world):
    await world.wants(ONE, TWO)
    assert (world.seen("1.0").weight, world.seen("2.0").weight) == (100, 0)
    world.converger.want(document(ONE, TWO, default="2.0"))
    await world.until(lambda: world.seen("2.0").weight == 100)
    assert world.seen("1.0").weight == 0


async def test_the_digest_of_what_is_here_is_seen(world):
    await world.wants(ONE)
    assert (world.seen("1.0").digest, world.seen("1.0").bytes) == (DIGEST, 10)


# the revision


async def test_the_revision_stands_still_while_nothing_changes(world):
    await world.wants(ONE)
    before = world.catalogue.revision
    world.fleet.of("1.0").counters.requests += 5
    world.fleet.announce()
    assert not await world.catalogue.wait_changed(before, 0.02)
    assert world.catalogue.revision == before


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda world: world.fleet.of("1.0").break_with("WorkerDied"), id="a worker"),
        pytest.param(lambda world: world.catalogue.start_draining(), id="draining"),
        pytest.param(lambda world: world.converger.want(document(ONE, TWO)), id="the wish"),
        pytest.param(
            lambda world: world.converger.want(document(ONE, sequence=7, owner=OWNER)),
            id="the sequence of the wish",
        ),
    ],
)
async def test_every_poller_is_woken_at_once_by_a_change_of(world, change):
    await world.wants(ONE)
    before = world.catalogue.revision
    async with asyncio.timeout(5), asyncio.TaskGroup() as polling:
        pollers = [
            polling.create_task(world.catalogue.wait_changed(before, 30)) for _ in range(200)
        ]
        await asyncio.sleep(0)
        change(world)
    assert all(poller.result() for poller in pollers)


async def test_a_revision_of_an_earlier_start_is_answered_at_once(world):
    assert await world.catalogue.wait_changed(world.catalogue.revision + 1000, 30)


async def test_closing_lets_no_poll_wait(world):
    before = world.catalogue.revision
    async with asyncio.timeout(5), asyncio.TaskGroup() as polling:
        polling.create_task(world.catalogue.wait_changed(before, 30))
        await asyncio.sleep(0)
        world.catalogue.close()
    await world.catalogue.wait_changed(world.catalogue.revision, 30)


# other content under the same version


@pytest.mark.parametrize(
    ("source", "field"),
    [
        pytest.param(Source("file:///other.mar"), "uri", id="another place"),
        pytest.param(Source(ONE.source.uri, "sha256:" + "1" * 64), "digest", id="another digest"),
        pytest.param(Source(ONE.source.uri, DIGEST), None, id="a pin on what is here"),
    ],
)
async def test_other_content_under_a_version_that_serves_is_a_conflict(world, source, field):
    await world.wants(ONE)
    problems = world.catalogue.conflicts(document(replace(ONE, source=source)))
    paths = [problem.path for problem in problems]
    assert paths == ([] if field is None else [f"models[0].versions[0].source.{field}"])


async def test_other_content_under_a_version_that_failed_is_a_repair(world):
    world.store.errors[ONE.source.uri] = ValueError("no")
    world.converger.want(document(ONE))
    await world.until(lambda: world.phase("1.0") == "Failed")
    assert not world.catalogue.conflicts(document(replace(ONE, source=Source("file:///b.mar"))))


# verbs as edits


def test_the_first_version_of_a_model_is_its_default():
    wanted = edits.with_version(edits.with_version(Document(), ONE), TWO)
    assert wanted == document(ONE, TWO, default="1.0")


def test_a_version_is_registered_once():
    with pytest.raises(VersionExists):
        edits.with_version(document(ONE), ONE)


def test_the_default_version_goes_last():
    with pytest.raises(DefaultVersionProtected):
        edits.without_version(document(ONE, TWO), "vision", "1.0")
    with pytest.raises(DefaultVersionProtected):
        edits.without_version(document(ONE, TWO), "vision")
    rest = edits.without_version(document(ONE, TWO), "vision", "2.0")
    assert edits.without_version(rest, "vision") == Document()


def test_workers_and_default_are_changed_alone():
    wanted = document(ONE, TWO)
    assert edits.with_workers(wanted, "vision", None, 3) == document(replace(ONE, workers=3), TWO)
    assert edits.with_default(wanted, "vision", "2.0") == document(ONE, TWO, default="2.0")


@pytest.mark.parametrize(
    "edit",
    [
        pytest.param(edits.without_version, id="remove"),
        pytest.param(lambda it, name, v: edits.with_workers(it, name, v, 2), id="scale"),
        pytest.param(edits.with_default, id="set the default"),
    ],
)
def test_what_is_not_there_cannot_be_edited(edit):
    with pytest.raises(ModelNotFound):
        edit(document(ONE), "nobody", "1.0")
    with pytest.raises(VersionNotFound):
        edit(document(ONE), "vision", "9")
