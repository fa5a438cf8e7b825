"""The catalogue with several versions that take requests: who gets them, and what is seen of it."""

import asyncio
from collections import Counter
from dataclasses import replace

import pytest

from flambeau_runtime.errors import ModelNotReady, VersionNotFound
from flambeau_runtime.serving.desired import Shadow, Sticky
from flambeau_runtime.serving.shadow import Shadowed
from tests.dataplane.fake_fleet import World, document, version
from tests.dataplane.managed_world import entry, started, write_boot_file, written

OLD = version("1.0")


def new(weight, number="2.0", **changes):
    return version(number, weight=weight, **changes)


@pytest.fixture
async def world():
    world = World()
    async with world.converger:
        yield world


def with_model(wanted, **changes):
    return replace(wanted, models=tuple(replace(model, **changes) for model in wanted.models))


def shares(catalogue, requests=1_000, model="vision", headers=b"\r\n"):
    """Who got how many of these requests, in percent."""
    taken = Counter(catalogue.route(model, None, headers).spec.version for _ in range(requests))
    return {number: round(100 * count / requests) for number, count in taken.items()}


def weights(world):
    [model] = world.catalogue.report().models
    return {report.version: report.weight for report in model.versions}


async def test_a_candidate_gets_its_share_once_it_is_ready(world):
    await world.wants(OLD)
    world.fleet.held.add("2.0")
    world.converger.want(document(OLD, new(25)))
    await world.loading("2.0")
    assert shares(world.catalogue) == {"1.0": 100}
    assert weights(world) == {"1.0": 100, "2.0": 0}
    world.fleet.of("2.0").become_ready()
    await world.until(lambda: world.phase("2.0") == "Ready")
    assert shares(world.catalogue) == {"1.0": 75, "2.0": 25}
    assert weights(world) == {"1.0": 75, "2.0": 25}


async def test_a_candidate_that_loses_its_workers_loses_its_share_to_the_default(world):
    await world.wants(OLD, new(25), new(25, "3.0"))
    assert shares(world.catalogue) == {"1.0": 50, "2.0": 25, "3.0": 25}
    world.fleet.of("2.0").ready = 0
    world.fleet.announce()
    await world.until(lambda: weights(world)["2.0"] == 0)
    assert shares(world.catalogue) == {"1.0": 75, "3.0": 25}
    world.fleet.of("2.0").become_ready()
    await world.until(lambda: weights(world) == {"1.0": 50, "2.0": 25, "3.0": 25})


async def test_weights_change_without_anything_being_loaded(world):
    await world.wants(OLD, new(5))
    before = world.fleet.of("2.0")
    await world.wants(OLD, new(50))
    assert world.fleet.of("2.0") is before
    assert shares(world.catalogue) == {"1.0": 50, "2.0": 50}


async def test_a_change_of_weights_is_told_and_requests_are_not(world):
    await world.wants(OLD, new(5))
    revision = world.catalogue.revision
    shares(world.catalogue)
    world.fleet.of("2.0").counters.answered(0.1, 0.0)
    world.catalogue.touch()
    assert world.catalogue.revision == revision
    await world.wants(OLD, new(6))
    assert world.catalogue.revision > revision


async def test_a_named_version_is_that_one_whatever_the_weights_say(world):
    await world.wants(OLD, new(100), new(0, "3.0"))
    assert {world.answering("1.0") for _ in range(20)} == {"1.0"}
    assert {world.answering("3.0") for _ in range(20)} == {"3.0"}
    with pytest.raises(VersionNotFound):
        world.answering("4.0")


async def test_a_named_version_that_is_not_there_is_refused_though_others_are(world):
    world.fleet.broken["2.0"] = "InitializeFailed"
    world.converger.want(document(OLD, new(50)))
    await world.until(lambda: world.phase("2.0") == "Failed" and world.phase("1.0") == "Ready")
    with pytest.raises(ModelNotReady):
        world.answering("2.0")
    assert shares(world.catalogue) == {"1.0": 100}


async def test_callers_keep_their_version_by_what_the_document_names(world):
    sticky = with_model(document(OLD, new(50)), sticky=Sticky(header="x-user"))
    world.converger.want(sticky)
    await world.until(lambda: weights(world) == {"1.0": 50, "2.0": 50})
    for number in range(20):
        assert set(shares(world.catalogue, 5, headers=b"\r\nX-User: %d\r\n" % number).values()) == {
            100
        }
    assert shares(world.catalogue) == {"1.0": 50, "2.0": 50}


async def test_before_the_new_default_has_arrived_the_old_one_has_the_rest(world):
    await world.wants(OLD)
    world.fleet.held.add("2.0")
    world.converger.want(document(OLD, new(30), default="2.0"))
    await world.loading("2.0")
    assert shares(world.catalogue) == {"1.0": 100}
    assert weights(world) == {"1.0": 100, "2.0": 0}
    world.fleet.of("2.0").become_ready()
    await world.until(lambda: weights(world) == {"1.0": 0, "2.0": 100})


async def test_the_one_model_of_a_runtime_needs_no_name_with_weights_either(world):
    world.catalogue.at_start = {"vision"}
    await world.wants(OLD, new(50))
    assert shares(world.catalogue, model=None) == {"1.0": 50, "2.0": 50}


async def test_a_model_without_weights_is_asked_without_a_choice(world):
    await world.wants(OLD, new(0))
    assert world.catalogue._splits == {}
    assert world.catalogue.route("vision", None, b"\r\n") is world.fleet.of("1.0")


async def test_who_stands_for_a_split_model_is_its_default(world):
    await world.wants(OLD, new(99))
    assert {world.answering() for _ in range(20)} == {"1.0"}


# shadows


def shadowed(percent=100, weight=0):
    return with_model(document(OLD, new(weight)), shadow=Shadow("2.0", percent))


async def test_a_shadow_that_is_ready_gets_copies_of_the_defaults_requests(world):
    world.fleet.held.add("2.0")
    world.converger.want(shadowed())
    await world.loading("2.0")
    assert world.catalogue.route("vision", None, b"\r\n") is world.fleet.of("1.0")
    world.fleet.of("2.0").become_ready()
    await world.until(lambda: world.phase("2.0") == "Ready")
    for route in (world.catalogue.route("vision"), world.catalogue.route("vision", "1.0")):
        assert isinstance(route, Shadowed)
        assert route.live is world.fleet.of("1.0")
    assert world.catalogue.route("vision", "2.0") is world.fleet.of("2.0")
    assert weights(world) == {"1.0": 100, "2.0": 0}


async def test_a_version_that_only_listens_is_known_as_such(world):
    world.converger.want(shadowed())
    await world.until(lambda: world.phase("2.0") == "Ready")
    assert [world.fleet.of(it).listens_only for it in ("1.0", "2.0")] == [False, True]
    world.converger.want(shadowed(weight=10))
    await world.until(lambda: weights(world)["2.0"] == 10)
    assert not world.fleet.of("2.0").listens_only


# after a boot


@pytest.fixture
def booting(tmp_path):
    split = written(5, entry("1.0"), entry("2.0", weight=40))
    split["models"][0]["shadow"] = {"version": "2.0"}
    write_boot_file(tmp_path, split)
    return tmp_path, split


async def test_after_a_boot_a_candidate_has_no_weight_before_the_next_document(booting):
    directory, split = booting
    async with started(directory) as world:
        await world.until(lambda: world.phase("2.0") == "Ready")
        seen = (await world.get())["observed"]
        assert seen["cautious"] is True
        assert [it["weight"] for it in seen["models"][0]["versions"]] == [100, 0]
        assert shares(world.catalogue) == {"1.0": 100}
        assert world.catalogue.route("vision") is world.fleet.of("1.0")  # no copies either
        assert world.answering("2.0") == "2.0"
        assert (await world.put({**split, "sequence": 6})).status == 202
        await world.until(lambda: weights(world) == {"1.0": 60, "2.0": 40})
        assert (await world.get())["observed"]["cautious"] is False


async def test_the_end_of_caution_answers_a_long_poll(booting):
    directory, split = booting
    async with started(directory) as world:
        await world.until(lambda: world.phase("2.0") == "Ready")
        revision = (await world.get())["revision"]
        async with asyncio.TaskGroup() as tasks:
            polled = tasks.create_task(world.get(f"?after={revision}&wait=10s"))
            await asyncio.sleep(0)
            await world.put({**split, "sequence": 6})
        assert polled.result()["observed"]["cautious"] is False


# windows


async def test_a_window_is_told_for_each_version_and_begins_with_its_word(tmp_path):
    async with started(tmp_path) as world:
        split = written(1, entry("1.0"), entry("2.0", weight=40))
        split["models"][0]["window"] = "abc.0"
        await world.put(split)
        await world.until(lambda: weights(world) == {"1.0": 60, "2.0": 40})
        world.fleet.of("2.0").counters.failed(0.004, 0.0)
        world.fleet.of("2.0").counters.answered(0.004, 0.0)
        old, candidate = (await world.get())["observed"]["models"][0]["versions"]
        assert (old["window"]["id"], old["window"]["requests"]) == ("abc.0", 0)
        window = candidate["window"]
        assert (window["requests"], window["errors"], window["restarts"]) == (2, 1, 0)
        counts = window["latency"]["counts"]
        assert len(counts) == len(window["latency"]["boundsMs"]) + 1
        assert window["latency"]["boundsMs"][counts.index(2)] == pytest.approx(4.0, rel=0.12)
        revision = (await world.get())["revision"]
        split["models"][0]["window"] = "abc.1"
        await world.put({**split, "sequence": 2})
        state = await world.get(f"?after={revision}&wait=5s")
        window = state["observed"]["models"][0]["versions"][1]["window"]
        assert (window["id"], window["requests"], window["errors"]) == ("abc.1", 0, 0)
        assert state["observed"]["models"][0]["versions"][1]["counters"]["requests"] == 2


async def test_a_version_without_a_window_has_none(tmp_path):
    async with started(tmp_path) as world:
        await world.put(written(1))
        await world.until(lambda: world.phase("1.0") == "Ready")
        assert (await world.get())["observed"]["models"][0]["versions"][0]["window"] is None
