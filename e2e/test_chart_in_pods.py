"""The chart where pods run: `helm test` says whether the operator does its work."""

import pytest

from e2e.cluster.faults import ClusterFault
from e2e.flambeau import RELEASE, SYSTEM

# The first run on a machine builds Kubernetes, helm and the images.
pytestmark = pytest.mark.timeout(1800)


def test_helm_test_passes_while_the_operator_is_ready(flambeau):
    assert "Phase:          Succeeded" in _helm_test(flambeau)


def test_helm_test_says_so_when_there_is_no_operator(flambeau):
    with flambeau.without_operator(), pytest.raises(ClusterFault):
        _helm_test(flambeau)
    words = flambeau.cluster.run("-n", SYSTEM, "logs", f"{RELEASE}-test")
    assert "/readyz" in words


def test_the_probes_of_the_operator_are_answered(flambeau):
    (pod,) = flambeau.operators()
    ready = {each["type"]: each["status"] for each in pod["status"]["conditions"]}
    assert ready["Ready"] == "True"
    assert pod["status"]["containerStatuses"][0]["restartCount"] == 0


def _helm_test(flambeau):
    words = ["test", RELEASE, f"--namespace={SYSTEM}", "--timeout=120s"]
    return flambeau.cluster.helm(*words, timeout_s=150)
