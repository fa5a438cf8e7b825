"""Fixtures of the row tests: real servers of the target that `--target` names."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.compat.ts import Place, Server, Target, new_place, original, ours

HERE = Path(__file__).parent


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Ask TorchServe only what it is meant to answer: rows, without those that differ."""
    if config.getoption("target") == "ours":
        return
    kept, left = [], []
    for item in items:
        elsewhere = HERE not in item.path.parents
        (kept if elsewhere or _is_for_both(item) else left).append(item)
    config.hook.pytest_deselected(items=left)
    items[:] = kept


def _is_for_both(item: pytest.Item) -> bool:
    rows = list(item.iter_markers("row"))
    return bool(rows) and not any(row.kwargs.get("only") == "ours" for row in rows)


@pytest.fixture(scope="session")
def target(request: pytest.FixtureRequest) -> Target:
    """Whose `torchserve` is asked."""
    if request.config.getoption("target") == "ours":
        return ours()
    return original(Path(request.config.getoption("original_venv")))


@pytest.fixture(scope="session")
def ts(target: Target) -> Iterator[Server]:
    """One server for all tests that need nothing special: no keys, model API on, Prometheus.

    Tests register models of their own: `with ts.registered(HANDLER) as model`.
    """
    place = new_place(target)
    try:
        with place.serving() as server:
            yield server
    finally:
        place.clear()


@pytest.fixture
def place(target: Target) -> Iterator[Place]:
    """A folder to run the command in: `place.run("--stop")`, `with place.serving() as server`."""
    place = new_place(target)
    yield place
    place.clear()


def _serve(target: Target) -> Iterator[Callable[..., Server]]:
    with ExitStack() as stack:

        def start(*flags: str, prepare: Callable[[Place], None] | None = None, **how) -> Server:
            place = new_place(target)
            stack.callback(place.clear)
            if prepare:
                prepare(place)
            return stack.enter_context(place.serving(*flags, **how))

        yield start


@pytest.fixture
def serve(target: Target) -> Iterator[Callable[..., Server]]:
    """Start a server of its own: `serve("--models", "ALL", config={...}, env={...})`.

    `prepare=` is called with its `Place` before the start, to fill the model store. The server is
    stopped with the test; arguments are those of `Place.serving`.
    """
    yield from _serve(target)


@pytest.fixture(scope="module")
def serve_module(target: Target) -> Iterator[Callable[..., Server]]:
    """The same for a fixture that a whole module shares: starting a JVM takes seconds."""
    yield from _serve(target)
