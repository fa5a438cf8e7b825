"""A worker whose CUDA context is spoiled makes way for a new one; torch is played by a few lines.

tests/gpu has the same with a real one.
"""

import asyncio
from contextlib import suppress

import pytest

from flambeau_runtime.errors import OutOfMemory, RuntimeFault
from tests.processes.living import answer, living

pytestmark = [pytest.mark.process, pytest.mark.timeout(60)]

HANDLER = """
    import os, sys, types

    SPOILED = []

    def synchronize():
        if SPOILED:
            raise RuntimeError(SPOILED[0])

    cuda = types.SimpleNamespace(is_initialized=lambda: True, synchronize=synchronize)
    sys.modules["torch"] = types.SimpleNamespace(cuda=cuda, Tensor=type("Tensor", (), {}))

    def fail(told):
        if told.get("spoil"):
            SPOILED.append("CUDA error: device-side assert triggered")
        if SPOILED:
            raise RuntimeError(SPOILED[0])
        if told.get("fail"):
            raise RuntimeError("CUDA out of memory")
"""
USUAL = """
    def handle(data, context):
        if data is not None:
            for row in data:
                fail(row["body"])
            return [os.getpid() for _ in data]
"""
CONCURRENT = """
    async def handle(data, context):
        if data is not None:
            for row in data:
                fail(row["body"])
            return [os.getpid() for _ in data]
"""
AT_ONCE = {"asyncCommunication": True}


@pytest.mark.parametrize(
    ("source", "config"),
    [
        pytest.param(USUAL, {}, id="a batch at a time"),
        pytest.param(CONCURRENT, AT_ONCE, id="many batches at once"),
    ],
)
async def test_a_batch_that_spoils_the_device_is_answered_and_a_new_worker_comes(
    tmp_path, source, config
):
    async with living(tmp_path, HANDLER + source, config=config) as (live, _):
        await live.until_ready(1)
        first = await answer(live)
        with pytest.raises(OutOfMemory, match="CUDA out of memory"):
            await answer(live, b'{"fail": true}')
        assert await answer(live) == first
        with pytest.raises(OutOfMemory, match="device-side assert"):
            await answer(live, b'{"spoil": true}')
        again = first
        async with asyncio.timeout(30):
            while again == first:
                with suppress(RuntimeFault):
                    again = await answer(live)
        assert sum(worker.restarts for worker in live.places) == 1
