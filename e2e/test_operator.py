"""The operator against a real API server: what it makes, what it leaves alone, what it outlives."""

import json
import os
import signal

import pytest

from e2e.cluster.faults import ClusterFault
from e2e.operator_process import CRD, operating, until
from e2e.operator_rights import grant

# The first run on a machine builds Kubernetes.
pytestmark = pytest.mark.timeout(1800)

OWN = "flambeau-system"
CHILDREN = (
    "serviceaccount/vision",
    "service/vision",
    "networkpolicy/vision",
    "poddisruptionbudget/vision",
    "configmap/vision-models",
    "deployment/vision",
)


@pytest.fixture(scope="module")
def crd(control_plane):
    """A control plane that knows ModelDeployments, and the operator's account."""
    control_plane.run("apply", "--server-side", "-f", str(CRD))
    named = "crd/modeldeployments.serving.flambeau.dev"
    control_plane.run("wait", named, "--for=condition=Established", "--timeout=30s")
    control_plane.run("create", "namespace", OWN)
    grant(control_plane, OWN, "operator")
    yield control_plane
    control_plane.run("delete", "namespace", OWN, "--wait=false")


@pytest.fixture(scope="module")
def kubeconfig(crd):
    """As whom the operator comes."""
    return crd.kubeconfig_for(OWN, "operator")


@pytest.fixture(scope="module")
def operator(kubeconfig, tmp_path_factory):
    """An operator that leads, with the rights that it has in the field."""
    with operating(kubeconfig, tmp_path_factory.mktemp("operator"), OWN) as operator:
        until(lambda: operator.ask("/readyz")[0] == 200)
        until(lambda: operator.metric("flambeau_leader") == 1)
        yield operator


@pytest.fixture
def team(crd, fresh_name):
    """Somebody's namespace."""
    crd.run("create", "namespace", fresh_name)
    yield Team(crd, fresh_name)
    crd.run("delete", "namespace", fresh_name, "--wait=false")


class Team:
    """What its people do."""

    def __init__(self, cluster, namespace):
        self._cluster = cluster
        self.namespace = namespace

    def run(self, *words, **options):
        return self._cluster.run("-n", self.namespace, *words, **options)

    def apply(self, **spec):
        self.run("apply", "-f", "-", given=json.dumps(vision(**spec)))

    def get(self, what):
        """Return an object; None when there is none."""
        found = self.run("get", what, "-o", "json", "--show-managed-fields", "--ignore-not-found")
        return json.loads(found) if found else None

    def condition(self, kind):
        """Return a condition of the ModelDeployment, empty while there is none."""
        status = (self.get("mdep/vision") or {}).get("status", {})
        found = [each for each in status.get("conditions", []) if each["type"] == kind]
        return found[0] if found else {}

    def until_seen(self):
        """Wait until the operator has reported on the spec as it is."""

        def seen():
            body = self.get("mdep/vision")
            return body["status"]["observedGeneration"] == body["metadata"]["generation"]

        until(seen)

    def until_all(self, children=CHILDREN):
        """Wait for the children and return them."""
        until(lambda: all(self.get(each) for each in children))
        return {each: self.get(each) for each in children}


def vision(**spec):
    source = {"uri": "file:///home/model-server/model-store/classifier-1.0.mar"}
    model = {"name": "classifier", "version": "1.0", "source": source}
    return {
        "apiVersion": "serving.flambeau.dev/v1alpha1",
        "kind": "ModelDeployment",
        "metadata": {"name": "vision", "annotations": spec.pop("annotations", {})},
        "spec": {"models": [model], "replicas": 2, **spec},
    }


@pytest.mark.usefixtures("operator")
def test_a_model_deployment_gets_children_that_belong_to_it(team):
    team.apply()
    uid = team.get("mdep/vision")["metadata"]["uid"]
    for child in team.until_all().values():
        owners = child["metadata"]["ownerReferences"]
        assert [(each["uid"], each["controller"]) for each in owners] == [(uid, True)]
        assert child["metadata"]["labels"]["app.kubernetes.io/managed-by"] == "flambeau"
    until(lambda: len(json.loads(team.run("get", "pods", "-o", "json"))["items"]) == 2)


@pytest.mark.usefixtures("operator")
def test_the_status_says_what_it_waits_for(team):
    team.apply()
    until(lambda: "no nodes available" in team.condition("PodsAvailable").get("message", ""))
    assert team.condition("PodsAvailable")["reason"] == "Unschedulable"
    assert team.condition("Ready")["status"] == "False"
    assert team.condition("Reconciling")["status"] == "True"
    status = team.get("mdep/vision")["status"]
    assert status["url"] == f"http://vision.{team.namespace}.svc"
    assert status["runtimeImage"] == "localhost/flambeau-runtime:dev"


@pytest.mark.usefixtures("operator")
def test_the_operator_owns_nothing_under_the_spec(team):
    team.apply()
    team.until_all()
    team.until_seen()
    fields = team.get("mdep/vision")["metadata"]["managedFields"]
    ours = [each for each in fields if each["manager"] == "flambeau"]
    assert ours
    assert all(set(each["fieldsV1"]) == {"f:status"} for each in ours)


def test_an_operator_that_comes_back_changes_nothing(crd, kubeconfig, tmp_path, team):
    team.apply()
    with operating(kubeconfig, tmp_path, OWN, watch=[team.namespace]):
        before = _versions(team.until_all())
        team.until_seen()
    with operating(kubeconfig, tmp_path, OWN, watch=[team.namespace], name="again") as again:
        until(lambda: again.metric('flambeau_reconcile_total{result="done"}') >= 2)
        assert not [each for each in again.events() if each["event"] == "applied"]
    assert _versions(team.until_all()) == before


@pytest.mark.usefixtures("operator")
def test_what_a_user_changes_of_a_child_is_put_back(team):
    team.apply()
    team.until_all()
    patch = json.dumps([{"op": "replace", "path": "/spec/ports/0/port", "value": 8888}])
    team.run("patch", "service/vision", "--type=json", "-p", patch)
    until(lambda: team.get("service/vision")["spec"]["ports"][0]["port"] == 80)
    team.run("delete", "poddisruptionbudget/vision", "networkpolicy/vision")
    team.until_all()


@pytest.mark.usefixtures("operator")
def test_what_is_no_longer_wished_for_leaves_the_children(team):
    team.apply(scheduling={"nodeSelector": {"disk": "fast"}}, networkPolicy="Managed")
    team.until_all()
    assert _pod_spec(team)["nodeSelector"] == {"disk": "fast"}
    team.apply(replicas=1, networkPolicy="None")
    until(lambda: "nodeSelector" not in _pod_spec(team))
    until(lambda: team.get("networkpolicy/vision") is None)
    until(lambda: team.get("poddisruptionbudget/vision") is None)


def test_everything_goes_with_the_object_though_no_operator_runs(kubeconfig, tmp_path, team):
    team.apply()
    with operating(kubeconfig, tmp_path, OWN, watch=[team.namespace]):
        team.until_all()
    team.run("delete", "mdep/vision", "--timeout=30s")
    until(lambda: not any(team.get(each) for each in CHILDREN))
    until(lambda: not json.loads(team.run("get", "pods", "-o", "json"))["items"])


@pytest.mark.usefixtures("operator")
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


@pytest.mark.usefixtures("operator")
def test_a_strangers_budget_is_nobodys_business_while_none_is_wanted(team):
    team.run("create", "poddisruptionbudget", "vision", "--selector=a=b", "--min-available=1")
    before = team.get("poddisruptionbudget/vision")
    team.apply(replicas=1)
    team.until_all(("deployment/vision", "service/vision"))
    team.until_seen()
    assert team.condition("Stalled") == {}
    assert team.get("poddisruptionbudget/vision") == before


@pytest.mark.usefixtures("operator")
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


@pytest.mark.usefixtures("operator")
def test_what_the_api_server_refuses_stands_in_the_status(team):
    team.apply(resources={"requests": {"cpu": "2"}, "limits": {"cpu": "1"}})
    until(lambda: "cpu limit" in team.condition("Stalled").get("message", ""))
    assert team.condition("Stalled")["reason"] == "Invalid"
    team.apply(resources={"requests": {"cpu": "500m"}, "limits": {"cpu": "0.5"}})
    until(lambda: team.condition("Stalled") == {})


@pytest.mark.usefixtures("operator")
def test_suspending_scales_to_nothing_and_resuming_brings_the_pods_back(team):
    team.apply()
    team.until_all()
    team.apply(suspend=True)
    until(lambda: _replicas(team) == 0)
    until(lambda: team.condition("Suspended").get("status") == "True")
    team.apply(suspend=False)
    until(lambda: _replicas(team) == 2)


@pytest.mark.usefixtures("operator")
def test_passing_the_number_of_pods_on_and_back_never_changes_it(team):
    team.apply(replicas=3)
    team.until_all()
    seen = _watch_replicas(team)
    wish = vision(autoscaling={"hpa": {"min": 2, "max": 5}})
    del wish["spec"]["replicas"]
    team.run("apply", "-f", "-", given=json.dumps(wish))
    until(lambda: team.get("hpa/vision"))
    until(lambda: "flambeau" not in _owners_of_replicas(team))
    team.run("scale", "deployment/vision", "--replicas=4")
    team.until_seen()
    team.apply(replicas=4)
    until(lambda: team.get("hpa/vision") is None)
    until(lambda: "flambeau" in _owners_of_replicas(team))
    assert seen() == [3, 4]


@pytest.mark.usefixtures("operator")
def test_a_deleted_committed_set_is_made_again(team):
    team.apply()
    team.until_all()
    before = json.loads(team.get("configmap/vision-models")["data"]["models.json"])
    team.run("delete", "configmap/vision-models")
    until(lambda: team.get("configmap/vision-models"))
    after = json.loads(team.get("configmap/vision-models")["data"]["models.json"])
    assert after["document"]["models"] == before["document"]["models"]
    assert after["publicKeys"] == before["publicKeys"]


def test_an_operator_of_some_namespaces_needs_no_more_than_rights_there(
    crd, tmp_path, team, fresh_name
):
    mine, elsewhere = fresh_name + "-own", fresh_name + "-other"
    for each in (mine, elsewhere):
        crd.run("create", "namespace", each)
    grant(crd, mine, "operator", watch=[team.namespace])
    kubeconfig = crd.kubeconfig_for(mine, "operator")
    other = Team(crd, elsewhere)
    with operating(kubeconfig, tmp_path, mine, watch=[team.namespace]):
        other.apply()
        team.apply()
        team.until_all()
        team.until_seen()
        assert other.get("deployment/vision") is None
    for each in (mine, elsewhere):
        crd.run("delete", "namespace", each, "--wait=false")


def test_the_key_is_made_once_and_kept(crd, kubeconfig, tmp_path, fresh_name):
    crd.run("create", "namespace", fresh_name)
    grant(crd, fresh_name, "operator", watch=[fresh_name])
    kubeconfig = crd.kubeconfig_for(fresh_name, "operator")
    with operating(kubeconfig, tmp_path, fresh_name, watch=[fresh_name], name="a") as one:
        with operating(kubeconfig, tmp_path, fresh_name, watch=[fresh_name], name="b") as other:
            for each in (one, other):
                until(lambda each=each: each.ask("/readyz")[0] == 200)
            first = crd.run("-n", fresh_name, "get", "secret", "flambeau-operator-keys", "-o=json")
    with operating(kubeconfig, tmp_path, fresh_name, watch=[fresh_name]) as again:
        until(lambda: again.ask("/readyz")[0] == 200)
    last = crd.run("-n", fresh_name, "get", "secret", "flambeau-operator-keys", "-o", "json")
    assert json.loads(first)["data"] == json.loads(last)["data"]
    crd.run("delete", "namespace", fresh_name, "--wait=false")


@pytest.mark.parametrize("ending", ["asked", "killed"])
def test_of_two_operators_one_works_and_the_other_takes_over(kubeconfig, tmp_path, team, ending):
    watch = [team.namespace]
    with operating(kubeconfig, tmp_path, OWN, watch=watch, name="first") as first:
        until(lambda: first.metric("flambeau_leader") == 1)
        with operating(kubeconfig, tmp_path, OWN, watch=watch, name="second") as second:
            until(lambda: second.ask("/readyz")[0] == 200)
            team.apply()
            team.until_all()
            assert second.metric("flambeau_leader") == 0
            assert not [each for each in second.events() if each["event"] == "applied"]
            os.kill(first.pid, signal.SIGTERM if ending == "asked" else signal.SIGKILL)
            # A lease that was given back is taken at the next look, another one after 15 s.
            until(lambda: second.metric("flambeau_leader") == 1, 8 if ending == "asked" else 30)
            team.apply(replicas=3)
            until(lambda: _replicas(team) == 3)


def test_an_operator_that_stood_still_stops_before_it_works_on(kubeconfig, tmp_path, team):
    watch = [team.namespace]
    with operating(kubeconfig, tmp_path, OWN, watch=watch, name="first") as first:
        until(lambda: first.metric("flambeau_leader") == 1)
        with operating(kubeconfig, tmp_path, OWN, watch=watch, name="second") as second:
            os.kill(first.pid, signal.SIGSTOP)
            until(lambda: second.metric("flambeau_leader") == 1)
            os.kill(first.pid, signal.SIGCONT)
            until(lambda: first.metric("flambeau_leader") == 0)
            assert second.metric("flambeau_leader") == 1


def test_an_api_server_that_was_away_is_caught_up_with(crd, operator, team):
    team.apply()
    team.until_all()
    with crd.without("kube-apiserver"):
        until(lambda: operator.metric("flambeau_leader") == 0)
        assert operator.process.poll() is None
    until(lambda: _answers(crd))
    team.apply(replicas=3)
    until(lambda: _replicas(team) == 3)
    assert operator.ask("/healthz")[0] == 200


def test_it_is_not_ready_before_the_crd_is_there(crd, tmp_path):
    with operating(crd.kubeconfig, tmp_path, OWN, watch=["default"]) as operator:
        until(lambda: operator.ask("/readyz")[0])
        assert operator.ask("/healthz")[0] == 200


def test_settings_that_cannot_be_are_all_named(crd, tmp_path):
    settings = {"runtime_image": "", "http_port": "http", "watch_namespaces": "Team A"}
    with operating(crd.kubeconfig, tmp_path, OWN, **settings) as operator:
        assert operator.process.wait(30) == 1
        told = operator.events()[-1]["why"]
    for name in ("FLAMBEAU_RUNTIME_IMAGE", "FLAMBEAU_HTTP_PORT", "FLAMBEAU_WATCH_NAMESPACES"):
        assert name in told


def _versions(children):
    return {name: body["metadata"]["resourceVersion"] for name, body in children.items()}


def _uids(children):
    return {name: body["metadata"]["uid"] for name, body in children.items()}


def _owner(body):
    references = body["metadata"].get("ownerReferences") or [{}]
    return references[0].get("uid")


def _pod_spec(team):
    return team.get("deployment/vision")["spec"]["template"]["spec"]


def _replicas(team):
    return team.get("deployment/vision")["spec"]["replicas"]


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


def _answers(cluster):
    try:
        return cluster.run("get", "--raw=/readyz") == "ok"
    except ClusterFault:
        return False
