"""The Kubernetes objects around a ModelDeployment."""

from __future__ import annotations

import json

import pytest

from flambeau_operator.plan.children import desired_children, runtime_hash
from flambeau_operator.plan.manifests import make_manifests, obsolete
from flambeau_operator.plan.pod_template import choose_image
from flambeau_operator.plan.site import Live, Site
from flambeau_operator.resources.model_deployment import Runtime
from tests.builders import a_deployment, model_body
from tests.controlplane.golden import cases

GPU = {"limits": {"nvidia.com/gpu": 1}}
NOTHING = Live()
HPA = {"hpa": {"min": 2, "max": 8}}


def made(site: Site = cases.SITE, live: Live = NOTHING, **spec) -> dict[str, dict]:
    """Return the manifests by kind."""
    children = desired_children(a_deployment(**spec), live.replicas)
    return {each["kind"]: each for each in make_manifests(cases.OWNER, children, site, live)}


def pod_of(manifests: dict[str, dict]) -> dict:
    return manifests["Deployment"]["spec"]["template"]["spec"]


def runtime_of(manifests: dict[str, dict]) -> dict:
    return pod_of(manifests)["containers"][0]


def volume(manifests: dict[str, dict], name: str) -> dict:
    found = next(each for each in pod_of(manifests)["volumes"] if each["name"] == name)
    return {key: value for key, value in found.items() if key != "name"}


# ------------------------------------------------------------------------------ nothing by accident


@pytest.mark.parametrize("name", cases.CASES)
def test_an_unchanged_spec_has_the_same_manifests_in_every_release(name):
    assert cases.manifests(name) == cases.golden(name)


def test_a_pod_template_names_nothing_of_the_operators_release():
    one, other = (
        Site("flambeau-system", image, image_pull_secrets=secrets)
        for image, secrets in (("runtime:1", ("a",)), ("runtime:2", ("b",)))
    )
    first = made(one)
    live = Live(
        exists=True,
        image=runtime_of(first)["image"],
        pull_policy=runtime_of(first)["imagePullPolicy"],
        runtime_hash=first["Deployment"]["metadata"]["annotations"]["serving.flambeau.dev/runtime"],
        replicas=1,
    )
    assert pod_of(made(other, live)) == pod_of(first)


def test_the_same_wish_in_another_order_is_the_same_bytes():
    one = {
        "configMaps": [{"name": "a"}, {"name": "b"}],
        "runtime": {"config": {"x": "1", "y": "2"}},
        "resources": {"limits": {"cpu": 1, "memory": "1Gi"}},
    }
    other = {
        "configMaps": [{"name": "b"}, {"name": "a"}],
        "runtime": {"config": {"y": "2", "x": "1"}},
        "resources": {"limits": {"memory": "1Gi", "cpu": 1}},
    }
    assert json.dumps(made(**one)) == json.dumps(made(**other))


def test_models_do_not_touch_what_runs_them():
    one = {each["kind"]: each for each in cases.manifests("minimal")}
    models = model_body(version="2.0", workers={"min": 3}, batching={"maxSize": 8})
    children = desired_children(a_deployment(models))
    other = make_manifests(cases.OWNER, children, cases.SITE, Live())
    assert {each["kind"]: each for each in other} == one


def test_every_child_is_labelled_and_goes_with_its_owner():
    for child in made(**cases.CASES["everything"], autoscaling=None).values():
        metadata = child["metadata"]
        assert (metadata["namespace"], metadata["name"]) == ("team-a", "vision")
        assert metadata["labels"]["app.kubernetes.io/managed-by"] == "flambeau"
        assert metadata["labels"]["serving.flambeau.dev/name"] == "vision"
        (owner,) = metadata["ownerReferences"]
        assert (owner["uid"], owner["controller"], owner["blockOwnerDeletion"]) == (
            cases.OWNER.uid,
            True,
            True,
        )


# ------------------------------------------------------------------------------------- which exist


EVERY_TIME = {"ServiceAccount", "Service", "Deployment"}


@pytest.mark.parametrize(
    ("spec", "optional"),
    [
        pytest.param({}, {"NetworkPolicy"}, id="one replica: no budget, it could not be kept"),
        pytest.param(
            {"replicas": 2},
            {"NetworkPolicy", "PodDisruptionBudget"},
            id="two replicas: one at a time may be evicted",
        ),
        pytest.param(
            {"replicas": 2, "disruption": {"podDisruptionBudget": "None"}},
            {"NetworkPolicy"},
            id="no budget is wished for",
        ),
        pytest.param(
            {"replicas": 2, "suspend": True},
            {"NetworkPolicy", "PodDisruptionBudget"},
            id="suspended: the objects stay",
        ),
        pytest.param({"networkPolicy": "None"}, set(), id="no policy is wished for"),
        pytest.param(
            {"autoscaling": HPA},
            {"NetworkPolicy", "PodDisruptionBudget", "HorizontalPodAutoscaler"},
            id="autoscaled",
        ),
        pytest.param(
            {"autoscaling": {"hpa": {"min": 1, "max": 1}}},
            {"NetworkPolicy", "HorizontalPodAutoscaler"},
            id="autoscaled between one and one",
        ),
    ],
)
def test_the_optional_children_are_those_that_are_wished_for_and_no_others(spec, optional):
    assert set(made(**spec)) == EVERY_TIME | optional
    unwanted = {kind for _, kind in obsolete(desired_children(a_deployment(**spec)))}
    every = {"NetworkPolicy", "PodDisruptionBudget", "HorizontalPodAutoscaler"}
    assert unwanted == every - optional


def test_children_come_in_the_order_in_which_they_rely_on_each_other():
    assert list(made(replicas=2, autoscaling=None)) == [
        "ServiceAccount",
        "Service",
        "NetworkPolicy",
        "PodDisruptionBudget",
        "Deployment",
    ]
    assert list(made(autoscaling=HPA))[-2:] == ["Deployment", "HorizontalPodAutoscaler"]


# ------------------------------------------------------------------------------------ the image


def live_with(image: str, runtime: dict, policy: str = "IfNotPresent") -> Live:
    written = runtime_hash(Runtime.model_validate(runtime))
    return Live(exists=True, image=image, pull_policy=policy, runtime_hash=written)


@pytest.mark.parametrize(
    ("runtime", "live", "chosen"),
    [
        pytest.param({}, Live(), ("site:2", "Never"), id="a new Deployment takes the site's"),
        pytest.param(
            {"image": "mine:1", "pullPolicy": "Always"},
            live_with("old:1", {}),
            ("mine:1", "Always"),
            id="a named image is taken",
        ),
        pytest.param(
            {},
            live_with("site:1", {}),
            ("site:1", "IfNotPresent"),
            id="an upgraded operator keeps what runs",
        ),
        pytest.param(
            {"config": {"a": "1"}},
            live_with("site:1", {}),
            ("site:2", "Never"),
            id="a changed spec.runtime takes the site's of today",
        ),
        pytest.param(
            {},
            live_with("mine:1", {"image": "mine:1"}),
            ("site:2", "Never"),
            id="a name that is taken away again gives the site's",
        ),
        pytest.param(
            {},
            Live(exists=True, image="somebody:1", runtime_hash=None),
            ("site:2", "Never"),
            id="a Deployment without our mark, an adopted one, takes the site's",
        ),
    ],
)
def test_the_image(runtime, live, chosen):
    site = Site("flambeau-system", "site:2", default_pull_policy="Never")
    image = choose_image(a_deployment(runtime=runtime).spec, site, live)
    assert (image.name, image.pull_policy) == chosen


# ------------------------------------------------------------------------------------ the pods


def test_pods_pass_the_restricted_pod_security_standard():
    pod = pod_of(made())
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert pod["automountServiceAccountToken"] is False
    for container in pod["containers"]:
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }


def test_a_pod_tells_its_owner_and_what_it_was_made_of():
    template = made()["Deployment"]["spec"]["template"]
    children = desired_children(a_deployment())
    labels = template["metadata"]["labels"]
    assert labels["serving.flambeau.dev/uid"] == cases.OWNER.uid
    assert labels["serving.flambeau.dev/template"] == children.template.template_hash
    assert {"name": "FLAMBEAU_OWNER_UID", "value": cases.OWNER.uid} in runtime_of(made())["env"]


@pytest.mark.parametrize(
    ("spec", "template_changes"),
    [
        pytest.param({"runtime": {"image": "mine:1"}}, True, id="the image"),
        pytest.param({"runtime": {"config": {"a": "1"}}}, True, id="the configuration"),
        pytest.param({"resources": {"limits": {"cpu": 1}}}, True, id="resources"),
        pytest.param({"scheduling": {"nodeSelector": {"a": "b"}}}, True, id="scheduling"),
        pytest.param({"scheduling": {"topologySpread": "None"}}, True, id="spreading"),
        pytest.param(
            {"storage": {"modelStore": {"emptyDir": {"sizeLimit": "1Gi"}}}}, True, id="storage"
        ),
        pytest.param({"configMaps": [{"name": "a"}]}, True, id="a ConfigMap"),
        pytest.param({"claims": [{"name": "a"}]}, True, id="a claim"),
        pytest.param({"podTemplate": {"spec": {"hostNetwork": True}}}, True, id="the patch"),
        pytest.param({"disruption": {"drainDelay": "11s"}}, True, id="how a pod leaves"),
        pytest.param({"replicas": 3}, False, id="the number of pods"),
        pytest.param({"suspend": True}, False, id="a suspension"),
        pytest.param({"autoscaling": HPA}, False, id="autoscaling"),
        pytest.param({"service": {"port": 90, "type": "NodePort"}}, False, id="the Service"),
        pytest.param({"networkPolicy": "None"}, False, id="the NetworkPolicy"),
        pytest.param({"disruption": {"podDisruptionBudget": "None"}}, False, id="the budget"),
        pytest.param({"scheduling": {"queueName": "a"}}, False, id="the queue"),
        pytest.param({"rollout": {"paused": True}}, False, id="how versions come in"),
    ],
)
def test_pods_roll_for_what_is_in_their_template_and_their_label_says_so(spec, template_changes):
    before, after = (each["Deployment"]["spec"]["template"] for each in (made(), made(**spec)))
    label = "serving.flambeau.dev/template"
    hashes = {each["metadata"]["labels"][label] for each in (before, after)}
    assert (before != after) is template_changes
    assert (len(hashes) > 1) is template_changes


@pytest.mark.parametrize(
    ("spec", "strategy"),
    [
        pytest.param(
            {"replicas": 3}, {"maxSurge": "25%", "maxUnavailable": 0}, id="a new pod comes first"
        ),
        pytest.param(
            {"replicas": 3, "resources": GPU},
            {"maxSurge": 0, "maxUnavailable": 1},
            id="with devices an old pod makes room first",
        ),
        pytest.param(
            {"resources": GPU},
            {"maxSurge": 0, "maxUnavailable": 1},
            id="a single pod with a device too, or a full node would wait for ever",
        ),
        pytest.param(
            {"resources": {"limits": {"cpu": 2, "memory": "1Gi"}}},
            {"maxSurge": "25%", "maxUnavailable": 0},
            id="CPU and memory are no devices",
        ),
    ],
)
def test_how_pods_are_replaced(spec, strategy):
    assert made(**spec)["Deployment"]["spec"]["strategy"]["rollingUpdate"] == strategy


@pytest.mark.parametrize(
    ("limits", "devices"),
    [
        pytest.param({"nvidia.com/gpu": 2}, "2", id="as many as the limit gives"),
        pytest.param({"nvidia.com/mig-1g.5gb": 1}, "1", id="a part of a device is one"),
        pytest.param({"cpu": 4}, None, id="none: the runtime looks for itself"),
    ],
)
def test_the_runtime_knows_how_many_devices_it_was_given(limits, devices):
    env = runtime_of(made(resources={"limits": limits}))["env"]
    assert {each["name"]: each["value"] for each in env}.get("FLAMBEAU_DEVICES") == devices


@pytest.mark.parametrize(
    ("store", "source", "read_only"),
    [
        pytest.param(None, {"emptyDir": {}}, False, id="nothing said: an empty folder"),
        pytest.param(
            {"emptyDir": {"sizeLimit": "1Gi", "medium": "Memory"}},
            {"emptyDir": {"sizeLimit": "1Gi", "medium": "Memory"}},
            False,
            id="an empty folder with a limit",
        ),
        pytest.param(
            {"persistentVolumeClaim": {"claimName": "c"}},
            {"persistentVolumeClaim": {"claimName": "c", "readOnly": True}},
            True,
            id="a claim is read",
        ),
        pytest.param(
            {"persistentVolumeClaim": {"claimName": "c", "readOnly": False}},
            {"persistentVolumeClaim": {"claimName": "c", "readOnly": False}},
            False,
            id="or written, when asked for",
        ),
        pytest.param(
            {"image": {"reference": "models:1", "pullPolicy": "Always"}},
            {"image": {"reference": "models:1", "pullPolicy": "Always"}},
            True,
            id="an image",
        ),
        pytest.param(
            {"ephemeral": {"volumeClaimTemplate": {"spec": {"storageClassName": "fast"}}}},
            {"ephemeral": {"volumeClaimTemplate": {"spec": {"storageClassName": "fast"}}}},
            False,
            id="a volume for each pod",
        ),
    ],
)
def test_the_model_store(store, source, read_only):
    manifests = made(storage={"modelStore": store} if store else {})
    mounts = {each["name"]: each for each in runtime_of(manifests)["volumeMounts"]}
    assert volume(manifests, "model-store") == source
    assert mounts["model-store"]["mountPath"] == "/home/model-server/model-store"
    assert mounts["model-store"].get("readOnly", False) is read_only


def test_an_image_volume_is_not_asked_of_a_cluster_that_does_not_serve_them():
    site = Site("flambeau-system", "runtime:1", image_volumes_served=False)
    manifests = made(site, storage={"modelStore": {"image": {"reference": "models:1"}}})
    assert volume(manifests, "model-store") == {"emptyDir": {}}


def test_the_configuration_reaches_the_runtime_by_the_pods_own_annotation():
    manifests = made(runtime={"config": {"b": "two\nlines", "a": "1"}})
    annotations = manifests["Deployment"]["spec"]["template"]["metadata"]["annotations"]
    assert annotations["serving.flambeau.dev/config"] == "a=1\nb=two\\nlines\n"
    arguments = runtime_of(manifests)["args"]
    assert arguments[arguments.index("--ts-config") + 1] == "/etc/flambeau-pod/config.properties"


def test_pods_spread_where_they_can_and_only_there():
    spread = pod_of(made())["topologySpreadConstraints"]
    assert [each["topologyKey"] for each in spread] == [
        "kubernetes.io/hostname",
        "topology.kubernetes.io/zone",
    ]
    assert {each["whenUnsatisfiable"] for each in spread} == {"ScheduleAnyway"}
    assert "topologySpreadConstraints" not in pod_of(made(scheduling={"topologySpread": "None"}))


def test_a_queue_is_named_only_where_somebody_keeps_queues():
    spec = {"scheduling": {"queueName": "team-a"}}
    with_queues = made(**spec)["Deployment"]["metadata"]["labels"]
    without = made(Site("flambeau-system", "runtime:1"), **spec)["Deployment"]["metadata"]["labels"]
    assert with_queues["kueue.x-k8s.io/queue-name"] == "team-a"
    assert "kueue.x-k8s.io/queue-name" not in without


# ------------------------------------------------------------------------------------ around them


def test_only_the_operator_reaches_the_management_port():
    predictions, management = made()["NetworkPolicy"]["spec"]["ingress"]
    assert [each["port"] for each in predictions["ports"]] == [8080, 8082]
    assert "from" not in predictions
    (operator,) = management["from"]
    assert [each["port"] for each in management["ports"]] == [8081]
    assert operator["namespaceSelector"]["matchLabels"] == {
        "kubernetes.io/metadata.name": "flambeau-system"
    }
    assert operator["podSelector"]["matchLabels"]["app.kubernetes.io/component"] == "operator"


def test_the_service_leads_to_predictions_alone():
    service = made(service={"port": 8000, "type": "NodePort"})["Service"]["spec"]
    ((port),) = service["ports"]
    assert (service["type"], port["port"], port["targetPort"]) == ("NodePort", 8000, 8080)


def test_an_autoscaler_follows_the_deployment_by_its_cpu_unless_told_otherwise():
    default = made(autoscaling=HPA)["HorizontalPodAutoscaler"]["spec"]
    assert default["scaleTargetRef"]["kind"] == "Deployment"
    assert (default["minReplicas"], default["maxReplicas"]) == (2, 8)
    assert default["metrics"][0]["resource"]["target"]["averageUtilization"] == 80
    own = {"type": "Pods", "pods": {"metric": {"name": "queue"}}}
    behavior = {"scaleDown": {"stabilizationWindowSeconds": 0}}
    told = made(autoscaling={"hpa": {"min": 1, "max": 2, "metrics": [own], "behavior": behavior}})
    assert told["HorizontalPodAutoscaler"]["spec"]["metrics"] == [own]
    assert told["HorizontalPodAutoscaler"]["spec"]["behavior"] == behavior
