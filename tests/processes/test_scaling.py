"""Workers come with the load and go without it, inside one runtime."""

import pytest

from flambeau_runtime.serving.autoscale import Rules
from flambeau_runtime.serving.desired import Swap
from flambeau_runtime.serving.load import LoadMeter
from tests.processes.living import until
from tests.processes.swapping import archived, inside, watched

pytestmark = [pytest.mark.process, pytest.mark.timeout(120)]

QUICK = Rules(spare_s=1.0)


async def test_load_brings_workers_up_to_the_most_and_its_end_takes_them_away(tmp_path):
    spec = archived(tmp_path, "1.0", takes=0.05, workers=1, max_workers=3)
    async with inside(tmp_path, rules=QUICK) as within:
        await within.wants(spec)
        async with watched(within, clients=8) as watch:
            await until(lambda: within.ready("1.0") == 3, 10)
            assert within.seen("1.0").workers.wanted == 3
        await until(lambda: len(within.supervisor.pids()) == 1, 20)
        assert within.seen("1.0").workers.wanted == 1
        assert watch.failed == []
        assert watch.most_processes == 3


async def test_a_load_that_is_met_brings_nobody(tmp_path):
    spec = archived(tmp_path, "1.0", takes=0.01, workers=1, max_workers=3)
    async with inside(tmp_path, rules=QUICK) as within:
        await within.wants(spec)
        async with watched(within, clients=1) as watch:
            await until(lambda: len(watch.said) > 100)
        assert watch.most_processes == 1


async def test_nobody_comes_for_whom_there_is_no_memory_and_then_the_pod_is_saturated(tmp_path):
    spec = archived(tmp_path, "1.0", takes=0.05, workers=1, max_workers=3)
    async with inside(tmp_path, declared_bytes=1, rules=QUICK) as within:
        await within.wants(spec)
        live = within.catalogue.live("vision", "1.0")
        meter = LoadMeter()
        async with watched(within, clients=8) as watch:
            await until(lambda: live.tight)
            await until(lambda: len(watch.said) > 20)
            meter.read((live,), 0.0)
            assert meter.read((live,), 0.001).saturation >= 1
        assert watch.most_processes == 1


async def test_during_a_swap_without_room_the_document_says_how_many(tmp_path):
    old = archived(tmp_path, "1.0", takes=0.05, workers=1, max_workers=3)
    new = archived(tmp_path, "2.0", takes=0.05, workers=1, max_workers=3)
    async with inside(tmp_path, rules=QUICK) as within:
        await within.wants(old)
        async with watched(within, clients=8) as watch:
            await until(lambda: within.ready("1.0") == 3, 10)
            within.want(old, new, swap=Swap.WORKER_BY_WORKER)
            await within.settles(v1=1, v2=1)
            await until(lambda: within.catalogue.live("vision", "1.0").queue_wait_s() > 0.15)
            assert len(within.supervisor.pids()) == 2
        assert watch.failed == []
