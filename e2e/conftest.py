"""One cluster of each tier for a test run, Flambeau on it, and a fresh namespace for each test."""

import contextlib
import secrets

import pytest
from tests import archives as archive_files
from tests.conftest import main_thread_loop  # noqa: F401  a fixture for everything here, too

from e2e.cluster import choice
from e2e.flambeau import SYSTEM, TORCH, Flambeau, Tenant, archives_of, wanted_images
from e2e.images import build as images
from e2e.load import Pace, Question, load as load_from_a_pod
from e2e.operator_process import CRD, operating
from e2e.operator_rights import grant
from e2e.team import Team

# While much else of a run is still being set up, these have the machine to themselves.
UNDER_LOAD = {"test_classifier.py", "test_nothing_is_lost.py"}


def pytest_collection_modifyitems(items):
    """Mark what needs pods that run, so that it can be run apart; first what asks under load."""
    items.sort(key=lambda item: item.path.name not in UNDER_LOAD)
    for item in items:
        if "cluster" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.tier2)


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
def flambeau(cluster):
    """Flambeau, installed as its users install it, for as long as the cluster lives."""
    if wanted_images():
        for archive in images.built(print).values():
            cluster.load(archive)
    cluster.run("create", "namespace", SYSTEM)
    restricted = "pod-security.kubernetes.io/enforce=restricted"
    cluster.run("label", "namespace", SYSTEM, restricted)
    installed = Flambeau(cluster)
    installed.install()
    return installed


@pytest.fixture
def tenant(flambeau, fresh_name):
    """A namespace of a user, which admits restricted pods only."""
    flambeau.cluster.run("create", "namespace", fresh_name)
    restricted = "pod-security.kubernetes.io/enforce=restricted"
    flambeau.cluster.run("label", "namespace", fresh_name, restricted)
    yield Tenant(flambeau, fresh_name)
    flambeau.cluster.run("delete", "namespace", fresh_name, "--wait=false")


@pytest.fixture
def torch_tenant(flambeau, tenant):
    """The same, with a runtime image that has torch."""
    flambeau.install(runtime=TORCH)
    yield tenant
    flambeau.install()


@pytest.fixture
def archives(tmp_path):
    """Make the ConfigMap `archives` with the named versions of the tiny handler."""

    def make(*versions):
        files = {}
        for version in versions:
            handler = archive_files.HANDLERS.get(version, archive_files.ECHO)
            file = archive_files.write_archive(tmp_path, version, handler)
            if version == "cut":
                file.write_bytes(file.read_bytes()[:-120])
            files[file.name] = file
        return archives_of("archives", files)

    return make


@pytest.fixture
def load(tenant):
    """Clients in a pod of the tenant's namespace, for the length of a block."""

    def start(
        url, path="/predictions/echo", *, body="{}", word='"version": ?"([^"]*)"', rate=60
    ) -> contextlib.AbstractContextManager:
        question = Question(url + path, body.encode(), word=word)
        return load_from_a_pod(tenant.cluster, tenant.namespace, question, Pace(rate))

    return start


@pytest.fixture(scope="session")
def crd(control_plane):
    """A control plane that knows ModelDeployments."""
    control_plane.run("apply", "--server-side", "--force-conflicts", "-f", str(CRD))
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
