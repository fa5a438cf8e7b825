"""Operators as processes: they come and go, stand still, lose their API server, keep their key."""

import json
import os
import signal

import pytest

from e2e.cluster.faults import ClusterFault
from e2e.operator_process import operating, until
from e2e.team import CHILDREN, Team

# The first run on a machine builds Kubernetes.
pytestmark = pytest.mark.timeout(1800)


def test_an_operator_that_comes_back_changes_nothing(start, team):
    team.apply()
    with start():
        before = _versions(team.until_all())
        team.until_seen()
    with start("again") as again:
        until(lambda: again.metric('flambeau_reconcile_total{result="done"}') >= 2)
        assert not [each for each in again.events() if each["event"] == "applied"]
    assert _versions(team.until_all()) == before


def test_everything_goes_with_the_object_though_no_operator_runs(start, team):
    team.apply()
    with start():
        team.until_all()
    team.run("delete", "mdep/vision", "--timeout=30s")
    until(lambda: not any(team.get(each) for each in CHILDREN))
    until(lambda: not team.list("pods"))


def test_an_operator_of_some_namespaces_needs_no_more_than_rights_there(crd, start, team):
    other = Team(crd, f"{team.namespace}-other")
    crd.run("create", "namespace", other.namespace)
    with start():
        other.apply()
        team.apply()
        team.until_all()
        team.until_seen()
        assert other.get("deployment/vision") is None
    crd.run("delete", "namespace", other.namespace, "--wait=false")


def test_the_key_is_made_once_and_kept(crd, start, team):
    def key():
        words = ["get", "secret", "flambeau-operator-keys", "-o", "json"]
        return json.loads(crd.run("-n", f"{team.namespace}-own", *words))["data"]

    with start("one") as one, start("other") as other:
        for each in (one, other):
            until(lambda each=each: each.ask("/readyz")[0] == 200)
        first = key()
    with start() as again:
        until(lambda: again.ask("/readyz")[0] == 200)
    assert key() == first


@pytest.mark.parametrize("ending", ["asked", "killed"])
def test_of_two_operators_one_works_and_the_other_takes_over(start, team, ending):
    with start("first") as first:
        until(lambda: first.metric("flambeau_leader") == 1)
        with start("second") as second:
            until(lambda: second.ask("/readyz")[0] == 200)
            team.apply()
            team.until_all()
            assert second.metric("flambeau_leader") == 0
            assert not [each for each in second.events() if each["event"] == "applied"]
            os.kill(first.pid, signal.SIGTERM if ending == "asked" else signal.SIGKILL)
            # A lease that was given back is taken at the next look, another one after 15 s.
            until(lambda: second.metric("flambeau_leader") == 1, 8 if ending == "asked" else 30)
            team.apply(replicas=3)
            until(lambda: team.replicas() == 3)


def test_an_operator_that_stood_still_no_longer_leads(start):
    with start("first") as first:
        until(lambda: first.metric("flambeau_leader") == 1)
        with start("second") as second:
            os.kill(first.pid, signal.SIGSTOP)
            until(lambda: second.metric("flambeau_leader") == 1)
            os.kill(first.pid, signal.SIGCONT)
            until(lambda: first.ask("/readyz")[0] == 200 and first.metric("flambeau_leader") == 0)
            assert second.metric("flambeau_leader") == 1


def test_an_api_server_that_was_away_is_caught_up_with(crd, start, team):
    team.apply()
    with start() as operator:
        team.until_all()
        with crd.without("kube-apiserver"):
            until(lambda: operator.metric("flambeau_leader") == 0)
            assert operator.process.poll() is None
        until(lambda: _answers(crd))
        team.apply(replicas=3)
        until(lambda: team.replicas() == 3)
        assert operator.ask("/healthz")[0] == 200


def test_settings_that_cannot_be_are_all_named(crd, tmp_path):
    settings = {"runtime_image": "", "http_port": "http", "watch_namespaces": "Team A"}
    with operating(crd.kubeconfig, tmp_path, "default", **settings) as operator:
        assert operator.process.wait(30) == 1
        told = operator.events()[-1]["why"]
    for name in ("FLAMBEAU_RUNTIME_IMAGE", "FLAMBEAU_HTTP_PORT", "FLAMBEAU_WATCH_NAMESPACES"):
        assert name in told


def _versions(children):
    return {name: body["metadata"]["resourceVersion"] for name, body in children.items()}


def _answers(cluster):
    try:
        return cluster.run("get", "--raw=/readyz") == "ok"
    except ClusterFault:
        return False
