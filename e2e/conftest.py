"""One cluster of each tier for a test run, and a fresh namespace for each test."""

import secrets

import pytest

from e2e.cluster import choice
from e2e.operator_process import CRD, operating
from e2e.operator_rights import grant
from e2e.team import Team


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


@pytest.fixture(scope="session")
def crd(control_plane):
    """A control plane that knows ModelDeployments."""
    control_plane.run("apply", "--server-side", "-f", str(CRD))
    named = "crd/modeldeployments.serving.flambeau.dev"
    control_plane.run("wait", named, "--for=condition=Established", "--timeout=30s")
    return control_plane


@pytest.fixture
def team(crd, fresh_name):
    """Somebody's namespace."""
    crd.run("create", "namespace", fresh_name)
    yield Team(crd, fresh_name)
    crd.run("delete", "namespace", fresh_name, "--wait=false")


@pytest.fixture
def start(crd, team, tmp_path):
    """Start operators that look after the team's namespace alone, from a namespace of their own."""
    own = f"{team.namespace}-own"
    crd.run("create", "namespace", own)
    grant(crd, own, "operator", watch=[team.namespace])
    kubeconfig = crd.kubeconfig_for(own, "operator")
    yield lambda name="operator-0": operating(
        kubeconfig, tmp_path, own, watch=[team.namespace], name=name
    )
    crd.run("delete", "namespace", own, "--wait=false")
