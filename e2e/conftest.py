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
    """A cluster whose pods run; one that is not named to us has two nodes."""
    with choice.running(2, tmp_path_factory.mktemp("cluster"), print, nodes=2) as cluster:
        yield cluster


@pytest.fixture(scope="session")
def two_nodes(cluster):
    """The same cluster, for who needs more than one node of it; their names are `nodes()`."""
    assert len(cluster.nodes()) > 1, "this needs a cluster with two nodes"
    return cluster


@pytest.fixture
def fresh_name():
    """A name that no other test uses, for a namespace."""
    return f"test-{secrets.token_hex(4)}"
