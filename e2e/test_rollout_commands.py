"""`kubectl flambeau`: a program on the PATH, in a cluster, as whoever the kubeconfig says."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from e2e.team import vision

# The first run on a machine builds Kubernetes.
pytestmark = pytest.mark.timeout(1800)

HASH = "5f0c5f0c5f0c"
MANAGER = "flambeau-cli"
STEPS = [{"weight": 5, "pause": "2m"}, {"weight": 100}]


@pytest.fixture
def kubectl(crd, team):
    """Run `kubectl flambeau …` in the team's namespace; return exit code, stdout, stderr."""

    def run(*words, kubeconfig=crd.kubeconfig, namespace=True):
        where = ["-n", team.namespace] if namespace else []
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
        done = subprocess.run(
            [str(crd.kubectl), "flambeau", *map(str, words), *where],
            env={"PATH": path, "HOME": "/nonexistent", "KUBECONFIG": str(kubeconfig)},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        return done.returncode, done.stdout, done.stderr

    return run


def seen(team, **rollout):
    """Write the status as an operator would in the first step of a canary."""
    body = team.get("mdep/vision")
    model = {
        "name": "classifier",
        "activeVersion": "1.0",
        "targetVersion": "1.1",
        "phase": "Canary",
        "weight": 5,
        "rollout": {"specHash": HASH, "candidate": "1.1", "step": 0, "mode": "SideBySide"}
        | rollout,
    }
    status = {"observedGeneration": body["metadata"]["generation"], "models": [model]}
    team.run(
        *("patch", "mdep/vision", "--subresource=status", "--type=merge"),
        *("-p", json.dumps({"status": status})),
    )


def canary(team, **rollout):
    """Have a ModelDeployment in the first step of a canary, without an operator."""
    team.apply(rollout={"hot": {"steps": STEPS}})
    seen(team, **rollout)


def test_it_is_a_plugin_that_kubectl_finds_and_that_reads_the_cluster_alone(kubectl, team):
    canary(team)
    code, out, errors = kubectl("rollout", "status", "vision", "--no-watch", "-o", "json")
    assert code == 3, errors
    told = json.loads(out)
    assert told["where"].startswith("context ")
    assert told["models"][0]["candidateHash"] == HASH
    assert [each["state"] for each in told["models"][0]["steps"]] == ["current", "next"]
    code, _, errors = kubectl("rollout", "status", "vision", "--local")
    assert (code, "is in no cluster" in errors) == (2, True)
    code, _, errors = kubectl("rollout", "status", "other")
    assert (code, f"there is no ModelDeployment {team.namespace}/other" in errors) == (2, True)


def test_the_namespace_is_the_contexts_unless_one_is_named(kubectl, team, crd, tmp_path):
    canary(team)
    mine = tmp_path / "kubeconfig"
    mine.write_text(Path(crd.kubeconfig).read_text())
    subprocess.run(
        [
            *(str(crd.kubectl), f"--kubeconfig={mine}", "config", "set-context", "--current"),
            f"--namespace={team.namespace}",
        ],
        check=True,
    )
    code, out, errors = kubectl(
        *("rollout", "status", "vision", "--no-watch", "-o", "json"),
        kubeconfig=mine,
        namespace=False,
    )
    assert code == 3, errors
    assert json.loads(out)["namespace"] == team.namespace
    code, _, errors = kubectl("rollout", "status", "vision", "--context", "nobodys")
    assert (code, "cannot be used" in errors) == (2, True)


@pytest.mark.parametrize(
    ("words", "rollout", "annotation", "value"),
    [
        (("promote",), {}, "promote", HASH),
        (("promote", "--step"), {}, "promote", f"{HASH}/0"),
        (("abort",), {}, "abort", HASH),
        (("retry",), {"failedHash": "abcd"}, "retry", "abcd"),
    ],
)
def test_a_command_is_an_annotation_that_names_the_candidate(
    kubectl, team, words, rollout, annotation, value
):
    canary(team, **rollout)
    verb, *more = words
    code, out, errors = kubectl("rollout", verb, "vision", *more, "--no-wait")
    assert code == 0, errors
    assert out.startswith("vision: asked for ")
    body = team.get("mdep/vision")
    assert body["metadata"]["annotations"][f"serving.flambeau.dev/{annotation}"] == value
    assert MANAGER in {each["manager"] for each in body["metadata"]["managedFields"]}


def test_nobody_who_takes_it_up_is_no_success(kubectl, team):
    canary(team)
    code, out, _ = kubectl("rollout", "abort", "vision")
    assert code == 3
    assert "the operator has not taken it up within 10 s: is it running?" in out


def test_a_pause_is_taken_up_by_the_operator_and_outlives_an_apply(kubectl, team, start):
    team.apply()
    with start():
        team.until_seen()
        code, out, errors = kubectl("rollout", "pause", "vision")
        assert code == 0, out + errors
        assert team.get("mdep/vision")["spec"]["rollout"]["paused"] is True
        team.apply(replicas=3)
        assert team.get("mdep/vision")["spec"]["rollout"]["paused"] is True
        team.until_seen()
        code, out, errors = kubectl("rollout", "resume", "vision", "-o", "json")
        assert code == 0, out + errors
        assert json.loads(out)["paused"] is False
        code, _, errors = kubectl("rollout", "promote", "vision")
        assert (code, "nothing to promote" in errors) == (1, True)


@pytest.fixture
def file(tmp_path):
    def write(**spec):
        path = tmp_path / "vision.json"
        path.write_text(json.dumps(vision(**spec)))
        return path

    return write


def test_a_plan_is_held_against_the_cluster_and_changes_nothing(kubectl, team, file):
    code, out, errors = kubectl("plan", file())
    assert (code, "new: every pod loads" in out) == (1, True), errors
    assert team.get("mdep/vision") is None
    team.apply()
    before = team.get("mdep/vision")["metadata"]["resourceVersion"]
    code, out, errors = kubectl("plan", file())
    assert (code, "nothing changes" in out) == (0, True), errors
    code, out, errors = kubectl("plan", file(replicas=5, networkPolicy="None"), "-o", "json")
    assert code == 1, errors
    (found,) = json.loads(out)["deployments"]
    assert {each["path"]: each["cost"] for each in found["changes"]} == {
        "replicas": "Scale",
        "networkPolicy": "AroundThePods",
    }
    assert team.get("mdep/vision")["metadata"]["resourceVersion"] == before


def test_a_plan_says_what_the_api_server_would_refuse(kubectl, team, file):
    model = vision()["spec"]["models"][0]

    def pinned(letter):
        source = {**model["source"], "digest": "sha256:" + letter * 64}
        return {"models": [{**model, "source": source}]}

    team.apply(**pinned("a"))
    code, out, errors = kubectl("plan", file(**pinned("b")))
    assert code == 2, errors
    assert "would be refused" in out
    assert "has this version with another digest already" in out


def test_whoever_may_only_read_can_look_and_plan_and_is_told_what_they_may_not(
    kubectl, team, crd, file
):
    canary(team)
    team.run("create", "serviceaccount", "reader")
    team.run("create", "role", "reader", "--verb=get,list", "--resource=modeldeployments")
    account = f"--serviceaccount={team.namespace}:reader"
    team.run("create", "rolebinding", "reader", "--role=reader", account)
    reader = crd.kubeconfig_for(team.namespace, "reader")
    code, _, errors = kubectl("rollout", "status", "vision", "--no-watch", kubeconfig=reader)
    assert code == 3, errors
    same = file(rollout={"hot": {"steps": STEPS}})
    code, out, errors = kubectl("plan", same, kubeconfig=reader)
    assert (code, "nothing changes" in out) == (0, True), errors
    code, _, errors = kubectl("rollout", "abort", "vision", kubeconfig=reader)
    assert (code, "403 Forbidden" in errors) == (2, True), errors
