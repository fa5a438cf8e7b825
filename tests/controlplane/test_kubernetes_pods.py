"""A pod of Kubernetes, read as the operator's core wants it."""

import pytest

from flambeau_operator.kubernetes.pods import keep_pod, read_pod
from flambeau_operator.resources.observed import Trouble

LABELS = {"serving.flambeau.dev/name": "vision", "serving.flambeau.dev/uid": "owner"}
RUNNING = {"running": {"startedAt": "2026-01-01T12:00:00Z"}}


def pod(status=None, **metadata):
    about = {"name": "vision-1", "namespace": "team", "uid": "u", "labels": LABELS, **metadata}
    return {"metadata": about, "status": {"phase": "Running", **(status or {})}}


def container(state, name="runtime", **more):
    return {"containerStatuses": [{"name": name, "state": state, "restartCount": 2, **more}]}


def waiting(reason, message="words"):
    return {"waiting": {"reason": reason, "message": message}}


def test_a_running_pod_is_asked_at_its_address():
    read = read_pod(pod(container(RUNNING, started=True) | {"podIP": "10.0.0.1"}))
    assert (read.running, read.restarts, read.owner_uid) == (True, 2, "owner")
    assert read.address == "http://10.0.0.1:8081"


def test_an_address_of_ipv6_gets_its_brackets():
    assert read_pod(pod({"podIP": "fd00::1"})).address == "http://[fd00::1]:8081"


@pytest.mark.parametrize(
    "status",
    [
        pytest.param({}, id="nothing is known of its containers"),
        pytest.param(container(waiting("ContainerCreating")), id="it is made"),
        pytest.param(container(RUNNING, started=False), id="its startup probe has not passed"),
        pytest.param(container(RUNNING, name="sidecar"), id="only a sidecar runs"),
    ],
)
def test_a_pod_does_not_run_yet_while(status):
    assert read_pod(pod(status)).running is False


def test_it_is_ready_by_the_kubelets_word():
    ready = {"conditions": [{"type": "Ready", "status": "True"}]}
    assert read_pod(pod(ready)).ready
    assert not read_pod(pod()).ready


def test_a_pod_that_is_told_to_go_is_terminating():
    assert read_pod(pod(deletionTimestamp="2026-01-01T12:00:00Z")).terminating


@pytest.mark.parametrize(
    ("status", "trouble"),
    [
        pytest.param(container(waiting("ContainerCreating")), None, id="being made is no trouble"),
        pytest.param(
            {
                "conditions": [
                    {
                        "type": "PodScheduled",
                        "status": "False",
                        "reason": "Unschedulable",
                        "message": "0/1 nodes are available: 1 Insufficient nvidia.com/gpu.",
                    }
                ]
            },
            Trouble("Unschedulable", "0/1 nodes are available: 1 Insufficient nvidia.com/gpu."),
            id="the scheduler's own words",
        ),
        pytest.param(
            container(waiting("ImagePullBackOff", "no such image")),
            Trouble("ImagePullBackOff", "container runtime: no such image"),
            id="the image cannot be had",
        ),
        pytest.param(
            container(
                waiting("CrashLoopBackOff", "back-off 10s"),
                lastState={"terminated": {"exitCode": 3, "reason": "Error", "message": "boom\n"}},
            ),
            Trouble(
                "CrashLoopBackOff",
                "container runtime: back-off 10s; last exit code 3 (Error); boom",
            ),
            id="how it ended the last time",
        ),
    ],
)
def test_why_a_pod_does_not_run(status, trouble):
    assert read_pod(pod(status)).trouble == trouble


@pytest.mark.parametrize("phase", ["Failed", "Succeeded"])
def test_a_pod_that_ended_for_good_is_forgotten(phase):
    assert keep_pod(pod({"phase": phase})) is None
