"""One version for another where not both fit: real workers, counted and weighed all the while."""

import asyncio
from dataclasses import replace

import pytest

from flambeau_runtime.errors import LoadFailed, ModelNotReady
from flambeau_runtime.serving.desired import Swap
from tests.processes.living import until
from tests.processes.swapping import MEBI, archived, inside, watched, weight, worker_processes

pytestmark = [pytest.mark.process, pytest.mark.timeout(120)]

BY_WORKER = {"swap": Swap.WORKER_BY_WORKER}
IN_TURNS = {"swap": Swap.RECREATE}
BALLAST = 40 * MEBI


async def test_workers_are_exchanged_one_by_one_and_no_request_notices(tmp_path):
    old = archived(tmp_path, "1.0", ballast=BALLAST, workers=3)
    new = archived(tmp_path, "2.0", ballast=BALLAST, workers=1)
    async with inside(tmp_path) as within:
        await within.wants(old)
        full = weight()
        async with watched(within) as watch:
            for left in (2, 1):
                within.want(replace(old, workers=left), replace(new, workers=3 - left), **BY_WORKER)
                await within.settles(v1=left, v2=3 - left)
                assert await within.says("2.0") == "2.0"
            within.want(replace(new, workers=3), **BY_WORKER)
            await within.settles(v2=3)
            assert await within.converger.gone("vision", "1.0", 20)
            await until(lambda: watch.said[-1] == "2.0")
        assert watch.failed == []
        assert set(watch.said) == {"1.0", "2.0"}
        assert watch.most_processes == 3
        assert full > 3 * BALLAST
        assert watch.most_bytes <= full + full / 3


async def test_a_rollback_takes_the_new_workers_away_before_the_old_ones_come_back(tmp_path):
    old, new = (archived(tmp_path, number, workers=3) for number in ("1.0", "2.0"))
    async with inside(tmp_path) as within:
        await within.wants(old)
        within.want(replace(old, workers=1), replace(new, workers=2), **BY_WORKER)
        await within.settles(v1=1, v2=2)
        async with watched(within) as watch:
            within.want(old, **BY_WORKER)
            await within.settles(v1=3)
        assert watch.failed == []
        assert set(watch.said) == {"1.0"}
        assert watch.most_processes == 3


async def test_the_last_old_worker_answers_until_all_the_others_are_new(tmp_path):
    old, new = (archived(tmp_path, number, workers=3) for number in ("1.0", "2.0"))
    async with inside(tmp_path) as within:
        await within.wants(old)
        async with watched(within) as watch:
            within.want(new, **BY_WORKER)
            await within.settles(v2=3)
        assert watch.failed == []
        assert watch.most_processes == 3


async def test_a_candidate_that_cannot_load_costs_the_place_it_was_given_and_no_more(tmp_path):
    old = archived(tmp_path, "1.0", workers=2)
    broken = archived(tmp_path, "2.0", "raise RuntimeError('no')", workers=1)
    async with inside(tmp_path) as within:
        await within.wants(old)
        async with watched(within) as watch:
            within.want(replace(old, workers=1), broken, **BY_WORKER)
            with pytest.raises(LoadFailed):
                await within.converger.settled("vision", "2.0", 30)
            assert within.ready("1.0") >= 1
            await within.wants(old)
            await within.settles(v1=2)
        assert watch.failed == []
        assert watch.most_processes == 2


async def test_what_takes_turns_leaves_the_service_answers_on_goes_and_comes_back(tmp_path):
    old, new = (archived(tmp_path, number, ballast=BALLAST) for number in ("1.0", "2.0"))
    async with inside(tmp_path, swap_delay_s=0.5) as within:
        await within.wants(old)
        full = weight()
        for before, after in ((old, new), (new, old)):
            assert within.catalogue.report().ready
            async with watched(within) as watch:
                await until(lambda: watch.said)
                within.want(after, **IN_TURNS)
                await until(lambda: not within.catalogue.report().ready)
                assert within.ready(before.version) == 1
                assert await within.says() == before.version
                assert await within.converger.settled("vision", after.version, 30)
                await until(lambda: within.catalogue.report().ready)
                await until(lambda last=after.version: watch.said[-1] == last)
            assert set(watch.said) == {before.version, after.version}
            assert {type(fault) for fault in watch.failed} == {ModelNotReady}
            assert watch.most_processes == 1
            assert watch.most_bytes <= 1.1 * full


async def test_a_request_in_flight_is_answered_before_the_old_version_goes(tmp_path):
    old = archived(tmp_path, "1.0", takes=1.0)
    async with inside(tmp_path, swap_delay_s=0.2) as within:
        await within.wants(old)
        async with asyncio.TaskGroup() as asking:
            last = asking.create_task(within.says())
            await until(lambda: within.catalogue.route("vision").queue.outstanding == 1)
            within.want(archived(tmp_path, "2.0"), **IN_TURNS)
        assert last.result() == "1.0"
        assert await within.converger.settled("vision", "2.0", 30)


async def test_a_new_version_that_cannot_be_fetched_takes_nobody_out_of_the_service(tmp_path):
    async with inside(tmp_path) as within:
        await within.wants(archived(tmp_path, "1.0"))
        new = archived(tmp_path, "2.0")
        (tmp_path / "vision-2.0.mar").unlink()
        async with watched(within) as watch:
            within.want(new, **IN_TURNS)
            with pytest.raises(LoadFailed):
                await within.converger.settled("vision", "2.0", 30)
            assert within.catalogue.report().ready
        assert watch.failed == []


async def test_a_new_version_that_fails_in_turn_makes_way_for_the_old_one(tmp_path):
    old = archived(tmp_path, "1.0")
    async with inside(tmp_path) as within:
        await within.wants(old)
        within.want(archived(tmp_path, "2.0", "raise RuntimeError('no')"), **IN_TURNS)
        with pytest.raises(LoadFailed):
            await within.converger.settled("vision", "2.0", 30)
        assert not within.catalogue.report().ready
        within.want(old, **IN_TURNS)
        await until(lambda: within.catalogue.report().ready)
        assert await within.says() == "1.0"
        assert len(worker_processes()) == 1
