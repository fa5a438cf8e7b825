"""What every test stands on."""

import asyncio
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

# How long an example takes says something of the machine, never of the product. All else stays
# as hypothesis has it, which is different on CI.
settings.register_profile(
    "any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("any machine")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Let the rows of the inventory be asked of TorchServe itself: see tests/compat/README.md."""
    parser.addoption("--target", choices=("ours", "original"), default="ours")
    parser.addoption("--original-venv", default=".venv-original", metavar="DIR")


@pytest.fixture(scope="session", autouse=True)
def main_thread_loop() -> Iterator[None]:
    """Own the loop that looptime's plugin would otherwise make for plain tests and never close."""
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    yield
    asyncio.set_event_loop(None)
    loop.close()
