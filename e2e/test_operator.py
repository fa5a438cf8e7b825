"""One operator against a real API server: what it makes, what it keeps, what it leaves alone."""

import json

import pytest

from e2e.operator_process import operating, until
from e2e.operator_rights import grant
from e2e.team import CHILDREN

# The first run on a machine builds Kubernetes.
pytestmark = [pytest.mark.timeout(1800), pytest.mark.usefixtures("operator")]

OWN = "flambeau-system"


@pytest.fixture(scope="module")
def operator(crd, tmp_path_factory):
    """An operator of all namespaces that leads, with the rights that it has in the field."""
    crd.run("create", "namespace", OWN)
    grant(crd, OWN, "operator", adopting=True)
    kubeconfig = crd.kubeconfig_for(OWN, "operator")
    with operating(kubeconfig, tmp_path_factory.mktemp("operator"), OWN) as operator:
        until(lambda: operator.ask("/readyz")[0] == 200)
        until(lambda: operator.metric("flambeau_leader") == 1)
        yield operator
    crd.run("delete", "namespace", OWN, "--wait=false")


def test_a_model_deployment_gets_children_that_belong_to_it(team):
    team.apply()
    uid = team.get("mdep/vision")["metadata"]["uid"]
    for child in team.until_all().values():
        owners = child["metadata"]["ownerReferences"]
        assert [(each["uid"], each["controller"]) for each in owners] == [(uid, True)]
        assert child["metadata"]["labels"]["app.kubernetes.io/managed-by"] == "flambeau"
    until(lambda: len(team.list("pods")) == 2)


def test_the_status_says_what_it_waits_for(team):
    team.apply()
    until(lambda: "no nodes available" in team.condition("PodsAvailable").get("message", ""))
    assert team.condition("PodsAvailable")["reason"] == "Unschedulable"
    assert team.condition("Ready")["status"] == "False"
    assert team.condition("Reconciling")["status"] == "True"
    status = team.get("mdep/vision")["status"]
    assert status["url"] == f"http://vision.{team.namespace}.svc"
    assert status["runtimeImage"] == "localhost/flambeau-runtime:dev"


def test_the_operator_owns_nothing_under_the_spec(team):
    team.apply()
    team.until_all()
    team.until_seen()
    fields = team.get("mdep/vision")["metadata"]["managedFields"]
    ours = [each for each in fields if each["manager"] == "flambeau"]
    assert ours
    assert all(set(each["fieldsV1"]) == {"f:status"} for each in ours)


def test_what_a_user_changes_of_a_child_is_put_back(team):
    team.apply()
    team.until_all()
    patch = json.dumps([{"op": "replace", "path": "/spec/ports/0/targetPort", "value": 8888}])
    team.run("patch", "service/vision", "--type=json", "-p", patch)
    until(lambda: team.get("service/vision")["spec"]["ports"][0]["targetPort"] == 8080)
    team.run("delete", "poddisruptionbudget/vision", "networkpolicy/vision")
    team.until_all()


def test_what_is_no_longer_wished_for_leaves_the_children(team):
    team.apply(scheduling={"nodeSelector": {"disk": "fast"}}, networkPolicy="Managed")
    team.until_all()
    assert _pod_spec(team)["nodeSelector"] == {"disk": "fast"}
    team.apply(replicas=1, networkPolicy="None")
    until(lambda: "nodeSelector" not in _pod_spec(team))
    until(lambda: team.get("networkpolicy/vision") is None)
    until(lambda: team.get("poddisruptionbudget/vision") is None)


def test_a_strangers_service_of_the_same_name_is_left_alone(team):
    team.run("create", "service", "clusterip", "vision", "--tcp=80:80")
    before = team.get("service/vision")
    team.apply()
    until(lambda: team.condition("Stalled").get("reason") == "NameConflict")
    assert "Service vision" in team.condition("Stalled")["message"]
    team.until_all(("deployment/vision",))
    assert team.get("service/vision") == before
    team.run("delete", "service/vision")
    until(lambda: team.condition("Stalled") == {})
    assert team.get("service/vision")["metadata"]["ownerReferences"]


def test_a_strangers_budget_is_nobodys_business_while_none_is_wanted(team):
    team.run("create", "poddisruptionbudget", "vision", "--selector=a=b", "--min-available=1")
    before = team.get("poddisruptionbudget/vision")
    team.apply(replicas=1)
    team.until_all(("deployment/vision", "service/vision"))
    team.until_seen()
    assert team.condition("Stalled") == {}
    assert team.get("poddisruptionbudget/vision") == before


def test_orphans_are_taken_over_only_with_the_annotation(team):
    team.apply()
    before = team.until_all()
    team.run("delete", "mdep/vision", "--cascade=orphan", "--timeout=30s")
    team.apply()
    until(lambda: team.condition("Stalled").get("reason") == "NameConflict")
    team.run("annotate", "mdep/vision", "serving.flambeau.dev/adopt=true")
    uid = team.get("mdep/vision")["metadata"]["uid"]
    until(lambda: all(_owner(team.get(each)) == uid for each in CHILDREN))
    assert team.condition("Stalled") == {}
    assert _uids(team.until_all()) == _uids(before)


def test_what_the_api_server_refuses_stands_in_the_status(team):
    team.apply(resources={"requests": {"cpu": "2"}, "limits": {"cpu": "1"}})
    until(lambda: "cpu limit" in team.condition("Stalled").get("message", ""))
    assert team.condition("Stalled")["reason"] == "Invalid"
    team.apply(resources={"requests": {"cpu": "500m"}, "limits": {"cpu": "0.5"}})
    until(lambda: team.condition("Stalled") == {})


def test_suspending_scales_to_nothing_and_resuming_brings_the_pods_back(team):
    team.apply()
    team.until_all()
    team.apply(suspend=True)
    until(lambda: team.replicas() == 0)
    until(lambda: team.condition("Suspended").get("status") == "True")
    team.apply(suspend=False)
    until(lambda: team.replicas() == 2)


def test_passing_the_number_of_pods_on_and_back_never_changes_it(team):
    team.apply(replicas=3)
    team.until_all()
    seen = _watch_replicas(team)
    team.apply(replicas=None, autoscaling={"hpa": {"min": 2, "max": 5}})
    until(lambda: team.get("hpa/vision"))
    until(lambda: "flambeau" not in _owners_of_replicas(team))
    team.run("scale", "deployment/vision", "--replicas=4")
    team.until_seen()
    team.apply(replicas=4)
    until(lambda: team.get("hpa/vision") is None)
    until(lambda: "flambeau" in _owners_of_replicas(team))
    assert seen() == [3, 4]


def test_a_deleted_committed_set_is_made_again(team):
    team.apply()
    team.until_all()
    before = json.loads(team.get("configmap/vision-models")["data"]["models.json"])
    team.run("delete", "configmap/vision-models")
    until(lambda: team.get("configmap/vision-models"))
    after = json.loads(team.get("configmap/vision-models")["data"]["models.json"])
    assert after["document"]["models"] == before["document"]["models"]
    assert after["publicKeys"] == before["publicKeys"]


def _uids(children):
    return {name: body["metadata"]["uid"] for name, body in children.items()}


def _owner(body):
    references = body["metadata"].get("ownerReferences") or [{}]
    return references[0].get("uid")


def _pod_spec(team):
    return team.get("deployment/vision")["spec"]["template"]["spec"]


def _owners_of_replicas(team):
    fields = team.get("deployment/vision")["metadata"]["managedFields"]
    return {
        each["manager"] for each in fields if "f:replicas" in each["fieldsV1"].get("f:spec", {})
    }


def _watch_replicas(team):
    """Return what returns every number of replicas that was wanted since, once in a row."""
    since = team.get("deployment/vision")["metadata"]["resourceVersion"]
    path = f"/apis/apps/v1/namespaces/{team.namespace}/deployments"

    def seen():
        query = f"?watch=true&resourceVersion={since}&timeoutSeconds=1"
        events = team.run("get", "--raw", path + query).splitlines()
        numbers = [json.loads(each)["object"]["spec"]["replicas"] for each in events]
        return [each for at, each in enumerate(numbers) if numbers[at - 1 : at] != [each]]

    return seen
