"""The chart on a real API server: what is installed stays as it is, and goes as it says."""

import json
import subprocess
from pathlib import Path

import pytest

from e2e.chart import CHART, CRD, NAMESPACE, Chart
from e2e.cluster import launch
from e2e.cluster.faults import ClusterFault
from e2e.cluster.place import Place
from e2e.waiting import until

# The first run on a machine builds Kubernetes and helm.
pytestmark = pytest.mark.timeout(1800)

DIGEST = f"sha256:{'0123456789abcdef' * 4}"
EVERYTHING = {
    "fullnameOverride": "fireworks",
    "global": {"imageRegistry": "registry.example.com:5000/mirror/"},
    "image": {"digest": DIGEST, "pullPolicy": "Always"},
    "runtime": {"image": {"repository": "team/runtime", "tag": "v9", "pullPolicy": "Never"}},
    "imagePullSecrets": [{"name": "registry"}, {"name": "mirror"}],
    "watchNamespaces": ["team-a", "team-b", NAMESPACE],
    "replicas": 2,
    "logLevel": "debug",
    "rbac": {"adopt": True},
    "serviceAccount": {"name": "igniter", "annotations": {"example.com/role": "operator"}},
    "service": {"annotations": {"prometheus.io/scrape": "true"}},
    "networkPolicy": {"from": [{"namespaceSelector": {"matchLabels": {"team": "metrics"}}}]},
    "resources": {"requests": {"cpu": "1", "ephemeral-storage": "1Gi"}, "limits": {"cpu": 2}},
    "podLabels": {"team": "platform", "app.kubernetes.io/name": "cannot-be-changed"},
    "podAnnotations": {"example.com/note": "yes"},
    "extraEnv": [
        {"name": "HTTPS_PROXY", "value": "http://proxy.example.com"},
        {
            "name": "NODE",
            "valueFrom": {"fieldRef": {"apiVersion": "v1", "fieldPath": "spec.nodeName"}},
        },
    ],
    "nodeSelector": {"kubernetes.io/os": "linux"},
    "tolerations": [{"key": "infra", "operator": "Exists", "effect": "NoSchedule"}],
    "affinity": {
        "nodeAffinity": {
            "preferredDuringSchedulingIgnoredDuringExecution": [
                {
                    "weight": 1,
                    "preference": {
                        "matchExpressions": [
                            {"key": "kubernetes.io/arch", "operator": "In", "values": ["amd64"]}
                        ]
                    },
                }
            ]
        }
    },
    "topologySpreadConstraints": [
        {
            "maxSkew": 1,
            "topologyKey": "kubernetes.io/hostname",
            "whenUnsatisfiable": "ScheduleAnyway",
            "labelSelector": {"matchLabels": {"app.kubernetes.io/name": "flambeau"}},
        }
    ],
    "priorityClassName": "system-cluster-critical",
}
NOTHING = {
    "crds": {"enabled": False},
    "rbac": {"create": False, "aggregate": False},
    "serviceAccount": {"create": False, "name": "default"},
    "networkPolicy": {"enabled": False},
}
WAYS = [
    pytest.param({}, id="as it comes"),
    pytest.param({"watchNamespaces": ["team-a", "team-b"]}, id="for some namespaces"),
    pytest.param({"replicas": 3}, id="with operators that stand by"),
    pytest.param({"replicas": 0}, id="with the operator stopped"),
    pytest.param(EVERYTHING, id="with every value set"),
    pytest.param(NOTHING, id="with all that can be left out left out"),
]
# What the API server alone can know, or completes in what users wrote themselves.
ITS_OWN = {
    "Service": {"clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy"},
    "CustomResourceDefinition": {"conversion"},
    "Deployment": {"serviceAccount"},  # the old name of serviceAccountName
}
COUNTERPARTS = {"data", "rules", "roleRef", "subjects", "spec", "automountServiceAccountToken"}


PROMETHEUS_OPERATOR = "github.com/prometheus-operator/prometheus-operator@v0.85.0"
VIEWER, EDITOR = "view", "edit"
MODEL = {
    "apiVersion": "serving.flambeau.dev/v1alpha1",
    "kind": "ModelDeployment",
    "metadata": {"name": "wine"},
    "spec": {
        "models": [
            {
                "name": "classifier",
                "version": "1.0",
                "source": {"uri": "https://example.com/classifier.mar"},
            }
        ]
    },
}


@pytest.fixture(scope="module")
def chart(tmp_path_factory):
    """The chart, and a control plane of its own: other tests have the CRD from elsewhere."""
    with launch.running(1, Place(tmp_path_factory.mktemp("chart") / "cluster"), print) as cluster:
        for namespace in (NAMESPACE, "team-a", "team-b"):
            cluster.run("create", "namespace", namespace)
        restricted = "pod-security.kubernetes.io/enforce=restricted"
        cluster.run("label", "namespace", NAMESPACE, restricted)
        yield Chart(cluster)


@pytest.fixture(scope="module", params=WAYS)
def way(chart, request):
    """One way to install it, and the chart installed in that way."""
    with chart.installed(request.param):
        yield request.param


def test_helm_has_nothing_to_say_against_it(chart):
    assert "0 chart(s) failed" in chart.cluster.helm("lint", "--strict", str(CHART))


def test_what_is_installed_stays_as_it_is_until_somebody_changes_it(chart, way):
    before = [chart.live(wanted) for wanted in chart.render(way)]
    assert before
    chart.cluster.run("diff", "-f", "-", given=chart.template(way))
    chart.upgrade(way)
    after = [chart.live(wanted) for wanted in chart.render(way)]
    assert _states(after) == _states(before)


def test_no_default_is_left_to_the_api_server(chart, way):
    # A tool that compares its files with the cluster would call each of them a drift, for ever.
    for wanted in chart.render(way):
        added = _added(wanted, chart.live(wanted))
        assert added <= ITS_OWN.get(wanted["kind"], set()), wanted["kind"]


def test_a_restricted_namespace_admits_the_operators_pods(chart, way):
    wanted = _deployment(chart, way)["spec"]["replicas"]
    until("the pods are made", lambda: len(_operators(chart)) == wanted)
    assert [pod["status"]["phase"] for pod in _operators(chart)] == ["Pending"] * wanted


def test_the_policies_of_models_know_the_operator_whatever_labels_it_is_given(chart):
    template = _deployment(chart, EVERYTHING)["spec"]["template"]
    ours = {"app.kubernetes.io/name": "flambeau", "app.kubernetes.io/component": "operator"}
    assert (ours | {"team": "platform"}).items() <= template["metadata"]["labels"].items()


def test_openshift_may_choose_the_user(chart):
    values = {"podSecurityContext": {"runAsUser": None, "runAsGroup": None}}
    context = _deployment(chart, values)["spec"]["template"]["spec"]["securityContext"]
    assert context == {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}


def test_one_registry_is_put_before_every_image(chart):
    values = {"global": {"imageRegistry": "mirror.example.com/all"}}
    (container,) = _deployment(chart, values)["spec"]["template"]["spec"]["containers"]
    environment = {each["name"]: each.get("value") for each in container["env"]}
    assert container["image"] == "mirror.example.com/all/flambeau-operator:dev"
    assert environment["FLAMBEAU_RUNTIME_IMAGE"].startswith("mirror.example.com/all/flambeau-")


@pytest.mark.parametrize(
    ("values", "words"),
    [
        pytest.param(
            {"replica": 3},
            "additional properties 'replica' not allowed",
            id="a name that no value has",
        ),
        pytest.param(
            {"runtime": {"images": {}}},
            "at '/runtime': additional properties 'images' not allowed",
            id="nor one deeper down",
        ),
        pytest.param(
            {"replicas": -1}, "at '/replicas': minimum: got -1, want 0", id="fewer than none"
        ),
        pytest.param(
            {"watchNamespaces": "team-a"},
            "at '/watchNamespaces': got string, want array",
            id="a namespace where a list is meant",
        ),
        pytest.param(
            {"watchNamespaces": ["Team_A"]},
            "at '/watchNamespaces/0': 'Team_A' does not match",
            id="what is no namespace",
        ),
        pytest.param(
            {"logLevel": "loud"},
            "at '/logLevel': value must be one of 'debug', 'info', 'warning', 'error'",
            id="a level that there is not",
        ),
        pytest.param(
            {"image": {"digest": "sha256:abc"}},
            "at '/image/digest': 'sha256:abc' does not match",
            id="half a digest",
        ),
        pytest.param(
            {"image": {"tag": ""}}, "at '/image/tag': '' does not match", id="an image without tag"
        ),
        pytest.param(
            {"imagePullSecrets": ["registry"]},
            "at '/imagePullSecrets/0': got string, want object",
            id="a Secret's bare name",
        ),
        pytest.param(
            {"resources": {"limits": {"memory": "lots"}}},
            "at '/resources/limits/memory': 'lots' does not match",
            id="what is no quantity",
        ),
        pytest.param(
            {"serviceAccount": {"create": False}},
            "name the ServiceAccount to use in serviceAccount.name",
            id="no ServiceAccount at all",
        ),
        pytest.param(
            {"extraEnv": [{"name": "FLAMBEAU_LOG_LEVEL", "value": "debug"}]},
            "FLAMBEAU_LOG_LEVEL is set by the chart: use the value that it stands for",
            id="the chart's own environment",
        ),
    ],
)
def test_a_wrong_value_is_refused_by_name(chart, values, words):
    with pytest.raises(ClusterFault) as refused:
        chart.template(values)
    assert words in str(refused.value)


def test_uninstalling_leaves_the_models_and_what_defines_them(chart):
    with chart.installed():
        _apply(chart, MODEL)
    assert chart.cluster.run("-n", "team-a", "get", "mdep", "wine", "-o", "name")
    assert _rest(chart) == []
    # And it can come back to them.
    with chart.installed():
        assert chart.cluster.run("-n", "team-a", "get", "mdep", "wine", "-o", "name")
    chart.cluster.run("-n", "team-a", "delete", "mdep", "wine")


def test_uninstalling_takes_everything_if_it_was_told_so(chart):
    with chart.installed({"crds": {"keep": False}}):
        _apply(chart, MODEL)
    until("the CRD is gone", lambda: CRD not in chart.cluster.run("get", "crd", "-o", "name"))


def test_an_upgrade_changes_what_is_installed_in_place(chart):
    with chart.installed():
        before = {_key(each): chart.live(each)["metadata"]["uid"] for each in chart.render()}
        changed = {"replicas": 2, "watchNamespaces": ["team-a"], "logLevel": "debug"}
        chart.upgrade(changed)
        after = {_key(each): chart.live(each)["metadata"]["uid"] for each in chart.render(changed)}
        kept = before.keys() & after.keys()
        assert {kind for kind, _, _ in kept} >= {"Deployment", "Service", "ServiceAccount"}
        assert {key: before[key] for key in kept} == {key: after[key] for key in kept}
        # The right to all namespaces goes with the wish for it.
        everywhere = chart.cluster.run("get", "clusterrolebindings", "-o", "name")
        assert "clusterrolebinding.rbac.authorization.k8s.io/flambeau\n" not in everywhere


def test_two_of_them_serve_namespaces_of_their_own_side_by_side(chart):
    second = {
        "watchNamespaces": ["team-b"],
        "crds": {"enabled": False},
        "rbac": {"aggregate": False},
    }
    other = Chart(chart.cluster, namespace="team-b")
    with chart.installed({"watchNamespaces": ["team-a"]}), other.installed(second):
        for namespace, account in (("team-a", NAMESPACE), ("team-b", "team-b")):
            assert _may(
                chart, f"system:serviceaccount:{account}:flambeau", namespace, "list", "mdep"
            )
        crossing = f"system:serviceaccount:{NAMESPACE}:flambeau"
        assert not _may(chart, crossing, "team-b", "list", "mdep")


@pytest.mark.parametrize("watched", [[], ["team-a", NAMESPACE]], ids=["everywhere", "in some"])
def test_the_operator_can_read_no_secret_but_its_own(chart, watched):
    account = f"--as=system:serviceaccount:{NAMESPACE}:flambeau"
    with chart.installed({"watchNamespaces": watched}):
        for namespace in ("default", "kube-system", "team-a", "team-b", NAMESPACE):
            words = ["auth", "can-i", "--list", f"--namespace={namespace}", account]
            rights = chart.cluster.run(*words)
            secrets = [line.split() for line in rights.splitlines() if line.startswith("secrets ")]
            # In a namespace of its own: create any, get one by its name.
            own = [
                ["secrets", "[]", "[]", "[create]"],
                ["secrets", "[]", "[flambeau-operator-keys]", "[get]"],
            ]
            assert sorted(secrets) == (own if namespace == NAMESPACE else []), rights
            assert "[*]" not in rights, rights


def test_who_edits_a_namespace_edits_its_models_and_who_views_it_views_them(chart):
    for who in (VIEWER, EDITOR):
        chart.cluster.run(
            "-n", "team-a", "create", "rolebinding", who, f"--clusterrole={who}", f"--user={who}"
        )
    with chart.installed():
        # Roles are put together by a controller.
        until("an editor may", lambda: _may(chart, EDITOR, "team-a", "create", "mdep"))
        until("a viewer may", lambda: _may(chart, VIEWER, "team-a", "watch", "mdep"))
        assert _may(chart, EDITOR, "team-a", "patch", "mdep", "scale")
        for verb in ("create", "update", "patch", "delete"):
            assert not _may(chart, VIEWER, "team-a", verb, "mdep")
        # What the operator reports is not theirs to write.
        for verb in ("update", "patch"):
            assert not _may(chart, EDITOR, "team-a", verb, "mdep", "status")
        assert not _may(chart, EDITOR, "team-b", "get", "mdep")
    until("the right is gone", lambda: not _may(chart, EDITOR, "team-a", "create", "mdep"))


def test_the_prometheus_operator_takes_the_pod_monitor(chart):
    monitoring = {"podMonitor": {"enabled": True, "labels": {"release": "prometheus"}}}
    with pytest.raises(ClusterFault, match="PodMonitor"), chart.installed(monitoring):
        pass  # without its CRDs, Helm names the kind that is not there
    chart.cluster.run("apply", "--server-side", "-f", str(_pod_monitors_crd()))
    with chart.installed(monitoring):
        (monitor,) = (each for each in chart.render(monitoring) if each["kind"] == "PodMonitor")
        assert chart.live(monitor)["spec"] == monitor["spec"]
        assert monitor["metadata"]["labels"]["release"] == "prometheus"
        (endpoint,) = monitor["spec"]["podMetricsEndpoints"]
        (container,) = _deployment(chart, {})["spec"]["template"]["spec"]["containers"]
        assert endpoint["port"] in {port["name"] for port in container["ports"]}


def test_the_notes_say_what_to_do_next_in_words_that_work(chart):
    with chart.installed({"watchNamespaces": ["team-a"]}) as notes:
        commands = [line.split() for line in notes.splitlines() if line.startswith("    kubectl ")]
        assert ["kubectl", "get", "mdep", "-n", "team-a", "-w"] in commands
        assert any("apply" in words for words in commands)
        (explain,) = (words for words in commands if "explain" in words)
        assert chart.cluster.run(*explain[1:])
        (rollout,) = (words for words in commands if "rollout" in words)
        with pytest.raises(ClusterFault, match=r"Waiting for deployment|timed out"):
            chart.cluster.run(*rollout[1:], "--timeout=1s")


def _deployment(chart, values):
    (deployment,) = (each for each in chart.render(values) if each["kind"] == "Deployment")
    return deployment


def _pod_monitors_crd():
    """Return the CRD as its own project ships it: a file of its Go module."""
    said = subprocess.run(
        ["go", "mod", "download", "-json", PROMETHEUS_OPERATOR], capture_output=True, check=False
    )
    module = json.loads(said.stdout)
    assert "Dir" in module, module
    folder = Path(module["Dir"]) / "example" / "prometheus-operator-crd"
    return folder / "monitoring.coreos.com_podmonitors.yaml"


def _apply(chart, model):
    chart.cluster.run("-n", "team-a", "apply", "-f", "-", given=json.dumps(model))


def _rest(chart):
    """Return what an uninstalled release has left in its namespace and among the roles."""
    kinds = "deploy,services,serviceaccounts,networkpolicies,pdb,roles,rolebindings"
    chosen = "app.kubernetes.io/name=flambeau"
    left = chart.cluster.run("get", kinds, "--all-namespaces", "-l", chosen, "-o", "name")
    roles = chart.cluster.run("get", "clusterroles,clusterrolebindings", "-l", chosen, "-o", "name")
    return (left + roles).split()


def _may(chart, who, namespace, verb, kind, subresource=""):
    words = [verb, kind, f"--namespace={namespace}", f"--as={who}", f"--subresource={subresource}"]
    try:
        return chart.cluster.run("auth", "can-i", *words).strip() == "yes"
    except ClusterFault:  # kubectl ends with 1 for a no
        return False


def _key(each):
    return each["kind"], each["metadata"]["name"], each["metadata"].get("namespace")


def _states(objects):
    """Return what changes when an object does, by whomever; where status is written, the wish's."""
    written = {"Deployment", "PodDisruptionBudget", "CustomResourceDefinition"}
    return {
        _key(each): each["metadata"]["generation" if each["kind"] in written else "resourceVersion"]
        for each in objects
    }


def _operators(chart):
    chosen = "app.kubernetes.io/name=flambeau,app.kubernetes.io/component=operator"
    pods = chart.cluster.run("-n", NAMESPACE, "get", "pods", "-l", chosen, "-o", "json")
    return [pod for pod in json.loads(pods)["items"] if "deletionTimestamp" not in pod["metadata"]]


def _added(wanted, live):
    """Return the names of the fields that the API server has and the chart did not write."""
    names = set()
    for key in COUNTERPARTS & live.keys():
        names |= {key} if key not in wanted else _more(wanted[key], live[key])
    return names


def _more(wanted, live):
    if isinstance(live, dict) and isinstance(wanted, dict):
        names = {key for key in live if key not in wanted}
        return names.union(*(_more(wanted[key], live[key]) for key in wanted.keys() & live.keys()))
    if isinstance(live, list) and isinstance(wanted, list):
        pairs = zip(wanted, live, strict=True)
        return set().union(*(_more(*pair) for pair in pairs))
    return set()
