"""What every test stands on."""

import asyncio
from collections.abc import Iterator

import pytest


@pytest.fixture(scope="session", autouse=True)
def main_thread_loop() -> Iterator[None]:
    """Own the loop that looptime's plugin would otherwise make for plain tests and never close."""
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    yield
    asyncio.set_event_loop(None)
    loop.close()
