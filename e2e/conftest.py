"""One cluster of each tier for a test run, and a fresh namespace for each test."""

import secrets

import pytest

from e2e.cluster import choice


@pytest.fixture(scope="session")
def control_plane(tmp_path_factory):
    """A cluster without nodes: objects, rules and controllers, no pods that run."""
    with choice.running(1, tmp_path_factory.mktemp("control-plane"), print) as cluster:
        yield cluster


@pytest.fixture(scope="session")
def cluster(tmp_path_factory):
    """A cluster whose pods run."""
    with choice.running(2, tmp_path_factory.mktemp("cluster"), print) as cluster:
        yield cluster


@pytest.fixture
def fresh_name():
    """A name that no other test uses, for a namespace."""
    return f"test-{secrets.token_hex(4)}"
