"""Kubernetes, too, is what the operator's core expects of a Cluster; with real pods."""

import sys

import pytest

from e2e.images import build
from e2e.images.recipes import RUNTIME
from e2e.operator_process import CHECKOUT, CRD

# The first run on a machine builds Kubernetes and the images.
pytestmark = pytest.mark.timeout(3600)


@pytest.fixture
def equipped(cluster):
    """A cluster that knows ModelDeployments and has the runtime's image."""
    cluster.run("apply", "--server-side", "-f", str(CRD))
    named = "crd/modeldeployments.serving.flambeau.dev"
    cluster.run("wait", named, "--for=condition=Established", "--timeout=30s")
    cluster.load(build.built(print, [RUNTIME])[RUNTIME.name])
    return cluster


def test_kubernetes_passes_the_suite_of_every_cluster(equipped):
    told = equipped.inside(
        "env",
        f"--chdir={CHECKOUT}",
        f"CONTRACT_KUBECONFIG={equipped.kubeconfig}",
        f"CONTRACT_KUBECTL={equipped.kubectl}",
        *[sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "e2e/on_kubernetes.py"],
        timeout_s=1500,
    )
    assert " passed" in told
