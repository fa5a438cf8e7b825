"""What a real API server makes of a ModelDeployment: rules, defaults, words, columns."""

import base64
import json
import os
import re
import secrets
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.builders import deployment_body, model_body

from e2e.cluster.faults import ClusterFault
from flambeau_operator.errors import InvalidSpec
from flambeau_operator.resources.model_deployment import parse

ROOT = Path(__file__).resolve().parents[1]
CRD = ROOT / "crds" / "modeldeployments.serving.flambeau.dev.yaml"
# The first run on a machine builds Kubernetes.
pytestmark = pytest.mark.timeout(1800)


@pytest.fixture(scope="module")
def server(control_plane):
    """A control plane that serves ModelDeployments."""
    control_plane.run("apply", "--warnings-as-errors", "-f", str(CRD))
    control_plane.run("wait", "--for=condition=Established", f"-f={CRD}", "--timeout=30s")
    return control_plane


@pytest.fixture
def namespace(server, fresh_name):
    server.run("create", "namespace", fresh_name)
    return Namespace(server, fresh_name)


@pytest.fixture(scope="module")
def barren(server):
    """A namespace in which nothing ever comes to be."""
    name = f"refusals-{secrets.token_hex(4)}"
    server.run("create", "namespace", name)
    yield Namespace(server, name)
    server.run("delete", "namespace", name, "--wait=false")


class Namespace:
    """Fresh, with the verbs that the tests need."""

    def __init__(self, server, name):
        self.name = name
        self._server = server

    def run(self, *words, given=None):
        return self._server.run("-n", self.name, *words, given=given)

    def apply(self, body: Mapping[str, Any], *words: str) -> dict[str, Any]:
        done = self.run("apply", *words, "-o", "json", "-f", "-", given=json.dumps(body))
        return json.loads(done)

    def read(self, name: str = "vision") -> dict[str, Any]:
        return json.loads(self.run("get", "modeldeployment", name, "-o", "json"))

    def refusal(self, body: Mapping[str, Any], *words: str) -> str:
        """Return what kubectl prints when the API server says no."""
        with pytest.raises(ClusterFault) as refused:
            self.apply(body, *words)
        return str(refused.value)


def written(*models: Mapping[str, Any], name: str = "vision", **spec: Any) -> dict[str, Any]:
    """Return a ModelDeployment as a user writes it."""
    body = deployment_body(*models, **spec)
    return {**body, "metadata": {"name": name}}


def model(**changes: Any) -> dict[str, Any]:
    return model_body(**changes)


def other(version: str, weight: int) -> dict[str, Any]:
    """Return a version beside a model's own."""
    return {"version": version, "weight": weight, "source": {"uri": "file:///models/other.mar"}}


CREDENTIALS = [{"name": "s3-read", "secretRef": {"name": "keys"}}]


def opened(uri: str) -> dict[str, Any]:
    """Return a model's source that asks for credentials."""
    return {"source": {"uri": uri, "credentials": "s3-read"}}


def at(uri: str) -> dict[str, Any]:
    return {"source": {"uri": uri}}


NOT_YET = "Forbidden: is not supported by this version"
NOT_A_DURATION = "should match '^([0-9]{1,5}(h|m|s|ms)){1,4}$'"
HPA = {"hpa": {"max": 4}}
MODEL = "spec.models[0]"
LONG = "x" * 300

REFUSED = [
    # rules between fields
    pytest.param(
        written(replicas=2, autoscaling=HPA),
        'spec.replicas: Invalid value: "object": cannot stand beside autoscaling. Where kubectl '
        "scale has left it behind: kubectl patch mdep NAME --type=json -p "
        '\'[{"op": "remove", "path": "/spec/replicas"}]\'',
        id="replicas and autoscaling exclude each other, and the way out is told",
    ),
    pytest.param(
        written(autoscaling={}),
        'spec.autoscaling: Invalid value: "object": must name its kind: hpa',
        id="autoscaling of no kind",
    ),
    pytest.param(
        written(autoscaling={"hpa": {"min": 5, "max": 4}}),
        'spec.autoscaling.hpa.max: Invalid value: "object": must not be less than min',
        id="a range that is upside down",
    ),
    pytest.param(
        written(autoscaling={"hpa": {}}),
        "spec.autoscaling.hpa.max: Required value",
        id="an autoscaler without an end",
    ),
    pytest.param(
        written(model(**at("configmap://wine/a.mar"))),
        'spec.configMaps: Invalid value: "object": every configmap://NAME of a source must be in '
        "spec.configMaps: add {name: NAME} to it",
        id="a source in a ConfigMap that is not mounted",
    ),
    pytest.param(
        written(model(**at("configmap://wine-2/a.mar")), configMaps=[{"name": "wine"}]),
        "every configmap://NAME of a source must be in spec.configMaps",
        id="the name of another ConfigMap is not enough if it only begins alike",
    ),
    pytest.param(
        written(model(**at("pvc://models/a.mar")), configMaps=[{"name": "models"}]),
        'spec.claims: Invalid value: "object": every pvc://NAME of a source must be in '
        "spec.claims: add {name: NAME} to it",
        id="a source on a claim that is not mounted",
    ),
    pytest.param(
        written(model(timeouts={"response": "200s"})),
        'spec.disruption.terminationGracePeriod: Invalid value: "object": must be at least '
        "disruption.drainDelay (10s) plus the longest models[].timeouts.response, is 2m30s: a "
        "stopping pod would cut off requests",
        id="a pod must have time to answer what it has begun",
    ),
    pytest.param(
        written(storage={"modelStore": {}}),
        'spec.storage.modelStore: Invalid value: "object": must be exactly one of emptyDir, '
        "persistentVolumeClaim, image and ephemeral",
        id="a model store of no kind",
    ),
    pytest.param(
        written(
            storage={"modelStore": {"emptyDir": {}, "image": {"reference": "registry/wine:1"}}}
        ),
        "must be exactly one of emptyDir, persistentVolumeClaim, image and ephemeral",
        id="a model store of two kinds",
    ),
    pytest.param(
        written(model(), model()),
        'spec.models[1]: Duplicate value: {"name":"classifier"}',
        id="two models of one name",
    ),
    pytest.param(
        written(configMaps=[{"name": "a"}, {"name": "a"}]),
        'spec.configMaps[1]: Duplicate value: {"name":"a"}',
        id="one ConfigMap twice",
    ),
    pytest.param(
        written(claims=[{"name": "a"}, {"name": "a"}]),
        'spec.claims[1]: Duplicate value: {"name":"a"}',
        id="one claim twice",
    ),
    # names
    *(
        pytest.param(
            written(name=name),
            "metadata.name must be at most 50 characters and match ^[a-z]([-a-z0-9]*[a-z0-9])?$: "
            "its Service and its pods are named after it",
            id=f"a name that {why}",
        )
        for name, why in (
            ("1abc", "a Service refuses"),
            ("my.model", "has a dot"),
            ("a" * 51, "leaves no room for those of the pods"),
        )
    ),
    pytest.param(
        written(model(name="a/b")),
        f"{MODEL}.name: Invalid value",
        id="a model whose name would be two parts of a URL",
    ),
    # sources
    pytest.param(
        written(model(**at("ftp://host/a.mar"))),
        f'{MODEL}.source.uri: Invalid value: "object": is not an address: use http, https, s3, ',
        id="a scheme that nobody speaks",
    ),
    pytest.param(
        written(model(**opened("s3://bucket/a.mar"))),
        'spec.credentials: Invalid value: "object": every credentials of a source must be in ',
        id="credentials that the spec does not name",
    ),
    pytest.param(
        written(model(**opened("file:///a.mar")), credentials=CREDENTIALS),
        f'{MODEL}.source.credentials: Invalid value: "object": is of no use for what is mounted',
        id="credentials for a file",
    ),
    pytest.param(
        written(credentials=CREDENTIALS * 2),
        'spec.credentials[1]: Duplicate value: {"name":"s3-read"}',
        id="one name for two credentials",
    ),
    pytest.param(
        written(storage={"cache": {"emptyDir": {}, "ephemeral": {"volumeClaimTemplate": {}}}}),
        'spec.storage.cache: Invalid value: "object": must be exactly one of emptyDir, ',
        id="a cache of two kinds",
    ),
    pytest.param(
        written(model(**at("a.mar"))),
        f'{MODEL}.source.uri: Invalid value: "object": is not an address: use http, https, s3, gs, '
        "az, hf, oci, file, pvc or configmap",
        id="a source without a scheme",
    ),
    pytest.param(
        written(model(**at("file:///a b.mar"))), "is not an address", id="a blank in an address"
    ),
    pytest.param(
        written(model(**at("configmap://wine")), configMaps=[{"name": "wine"}]),
        "must be configmap://NAME/KEY: a ConfigMap and a key in it",
        id="a ConfigMap without a key",
    ),
    pytest.param(
        written(model(**at("configmap://wine/a/b.mar")), configMaps=[{"name": "wine"}]),
        "must be configmap://NAME/KEY: a ConfigMap and a key in it",
        id="a folder in a ConfigMap",
    ),
    *(
        pytest.param(
            written(model(**at(f"pvc://models/{path}")), claims=[{"name": "models"}]),
            "must be pvc://CLAIM/PATH: a claim and a path below its root, without ..",
            id=f"a path on a claim that is {path!r}",
        )
        for path in ("", "../a.mar", "a/..", "a/%2E./b")
    ),
    pytest.param(
        written(model(source={"uri": "file:///a.mar", "digest": "sha256:12"})),
        f"{MODEL}.source.digest: Invalid value",
        id="half a digest",
    ),
    # scalars
    pytest.param(
        written(model(batching={"maxDelay": "1 day"})),
        f'{MODEL}.batching.maxDelay: Invalid value: "1 day"',
        id="a duration in words",
    ),
    pytest.param(
        written(model(batching={"maxDelay": "-5s"})), NOT_A_DURATION, id="a duration below zero"
    ),
    pytest.param(
        written(model(batching={"maxDelay": "25h"})),
        f'{MODEL}.batching.maxDelay: Invalid value: "string": must be at most 24h',
        id="a delay of more than a day",
    ),
    pytest.param(
        written(model(timeouts={"startup": "0s"})),
        f'{MODEL}.timeouts.startup: Invalid value: "string": must be more than 0s',
        id="no patience at all",
    ),
    pytest.param(
        written(rollout={"progressDeadline": "0ms"}),
        'spec.rollout.progressDeadline: Invalid value: "string": must be more than 0s',
        id="a deadline that is over at once",
    ),
    pytest.param(
        written(rollout={"hot": {"maxUnavailablePods": "0%"}}),
        "spec.rollout.hot.maxUnavailablePods: Invalid value",
        id="a rollout in which no pod may change",
    ),
    pytest.param(
        written(rollout={"hot": {"maxUnavailablePods": 0}}),
        "should be greater than or equal to 1",
        id="and the same as a number",
    ),
    pytest.param(
        written(rollout={"strategy": "BlueGreen"}),
        'spec.rollout.strategy: Unsupported value: "BlueGreen": supported values: "Hot", '
        '"RollingPods"',
        id="a strategy that nobody knows",
    ),
    pytest.param(
        written(resources={"requests": {"cpu": "two"}}),
        "spec.resources.requests.cpu: Invalid value",
        id="a quantity in words",
    ),
    pytest.param(
        written(resources={"limits": {"cpu": 0.5}}),
        "spec.resources.limits.cpu in body must be of type integer,string",
        id="a fraction that is not in quotes",
    ),
    pytest.param(
        written(resources={"limits": {"cpu": "2\n"}}),
        "spec.resources.limits.cpu: Invalid value",
        id="a quantity and then something",
    ),
    pytest.param(
        written(model(handler={"env": {"1A": "b"}})),
        f'{MODEL}.handler.env: Invalid value: "object": every name must match '
        "^[A-Za-z_][A-Za-z0-9_]*$",
        id="a variable that no shell could set",
    ),
    pytest.param(
        written(model(handler={"env": {LONG: "b"}})),
        "a name has at most 253 characters",
        id="a variable with an endless name",
    ),
    pytest.param(
        written(runtime={"config": {"a b": "c"}}),
        'spec.runtime.config: Invalid value: "object": every name must match ^[A-Za-z0-9_.-]+$',
        id="a key that no line of config.properties could have",
    ),
    pytest.param(
        written(resources={"limits": {LONG: "1"}}),
        'spec.resources.limits: Invalid value: "object": a name has at most 253 characters',
        id="a resource with an endless name",
    ),
    pytest.param(written(replicas=-1), "spec.replicas: Invalid value: -1", id="less than none"),
    pytest.param(
        written(model(workers={"min": 0})), f"{MODEL}.workers.min", id="a model without workers"
    ),
    pytest.param(
        {**written(), "spec": {"models": []}},
        "spec.models: Invalid value: 0: spec.models in body should have at least 1 items",
        id="no model",
    ),
    pytest.param(
        {**written(), "spec": {}}, "spec.models: Required value", id="a spec that says nothing"
    ),
    # fields to come
    *(
        pytest.param(written(**{field: value}), f"spec.{field}: {NOT_YET}", id=f"later: {field}")
        for field, value in {
            "route": {"gateway": {}},
            "inferenceAuth": {"apiKey": {"secretRef": {"name": "keys"}}},
            "monitoring": {"podMonitor": "Auto"},
        }.items()
    ),
    pytest.param(
        written(model(workers={"devicesPerWorker": 4})),
        f"{MODEL}.workers.devicesPerWorker: {NOT_YET}",
        id="later: workers.devicesPerWorker",
    ),
    pytest.param(
        written(runtime={"grpc": True}, service={"port": 7070}),
        'spec.service.port: Invalid value: "object": must not be 7070, where the Service takes '
        "gRPC: choose another one",
        id="the Service's port is that of gRPC",
    ),
    pytest.param(
        written(autoscaling={**HPA, "keda": {"max": 3}}),
        f"spec.autoscaling.keda: {NOT_YET}",
        id="later: KEDA",
    ),
    *(
        pytest.param(written(rollout={"hot": hot}), f"spec.rollout.hot.{said}", id=id_)
        for hot, said, id_ in (
            (
                {"steps": [{"weight": 50}, {"weight": 5}, {"weight": 100}]},
                'steps: Invalid value: "object": must have ascending weights, each once',
                "steps that go down",
            ),
            (
                {"steps": [{"weight": 5}, {"weight": 5}, {"weight": 100}]},
                'steps: Invalid value: "object": must have ascending weights, each once',
                "the same step twice",
            ),
            (
                {"steps": [{"weight": 5}, {"weight": 50}]},
                'steps: Invalid value: "object": must end with {weight: 100}',
                "steps that stop half-way",
            ),
            (
                {"analysis": {"minRequests": 200}},
                'analysis: Invalid value: "object": needs steps to look at',
                "an analysis of nothing",
            ),
            (
                {
                    "steps": [{"weight": 100}],
                    "analysis": {"failOn": {"errorRate": {"max": "2 %"}}},
                },
                "analysis.failOn.errorRate.max: Invalid value",
                "a percentage with a space",
            ),
            ({"mode": "Fast"}, 'mode: Unsupported value: "Fast"', "a mode that nobody knows"),
            ({"keepPrevious": "1 day"}, "keepPrevious: Invalid value", "a time in words"),
        )
    ),
    pytest.param(
        written(rollout={"strategy": "RollingPods", "hot": {"mode": "Auto"}}),
        'spec.rollout.hot: Invalid value: "object": has no effect with strategy RollingPods',
        id="words on changing in the pods where new pods come",
    ),
    pytest.param(
        written(model(workers={"min": 4, "max": 2})),
        f'{MODEL}.workers.max: Invalid value: "object": must not be less than min',
        id="fewer workers at most than at least",
    ),
    *(
        pytest.param(written(model(split=split)), f"{MODEL}.split.{said}", id=id_)
        for split, said, id_ in (
            (
                {"stickyHeader": "x-user", "stickyCookie": "user"},
                'stickyCookie: Invalid value: "object": cannot stand beside stickyHeader',
                "callers known by two things",
            ),
            (
                {"versions": [other("0.8", 60), other("0.9", 40)]},
                'versions: Invalid value: "object": must leave something to the model\'s own',
                "a split that leaves nothing to the model's own version",
            ),
            (
                {"versions": [other("0.9", 10), other("0.9", 20)]},
                'versions: Invalid value: "object": must name each version once',
                "a version with two shares",
            ),
            (
                {"versions": [other("1.0", 10)]},
                'versions: Invalid value: "object": names the model\'s own version',
                "a share for the model's own version",
            ),
        )
    ),
    pytest.param(
        written(model(shadow={"version": "1.0", "source": other("1.0", 1)["source"]})),
        f'{MODEL}.shadow.version: Invalid value: "object": is the model\'s own version',
        id="a version that is its own shadow",
    ),
]


@pytest.mark.parametrize(("body", "said"), REFUSED)
def test_a_wrong_object_is_refused_in_words_that_help(barren, body, said):
    assert said in barren.refusal(body)


@pytest.mark.parametrize("body", [pytest.param(each.values[0], id=each.id) for each in REFUSED])
def test_flambeau_validate_refuses_what_the_api_server_refuses(body):
    with pytest.raises(InvalidSpec):
        parse(body)


ACCEPTED = [
    *(
        pytest.param(
            written(model(**opened(uri)), credentials=CREDENTIALS),
            id=f"an archive at {uri.partition(':')[0]}, opened by a Secret",
        )
        for uri in (
            "s3://models/a.mar",
            "gs://models/a.mar",
            "az://models/a.mar",
            "hf://org/repo@main/a.mar",
            "oci://registry.example/models/a:1",
            "https://models.example/a.mar",
        )
    ),
    pytest.param(
        written(storage={"cache": {"persistentVolumeClaim": {"claimName": "cache"}}}),
        id="a cache on a claim",
    ),
    pytest.param(written(), id="the shortest there is"),
    pytest.param(written(name="a" * 50), id="the longest name"),
    pytest.param(written(replicas=0), id="no pods for now"),
    pytest.param(
        written(autoscaling={"hpa": {"min": 2, "max": 2, "behavior": {"scaleDown": {}}}}),
        id="an autoscaler instead of replicas",
    ),
    pytest.param(
        written(
            model(**at("configmap://wine.v1/a-1.0_x.mar")),
            model_body("other", **at("pvc://models/teams/a/..b/c%20d.mar")),
            model_body("third", **at("HTTPS://x/y".lower())),
            configMaps=[{"name": "wine.v1"}],
            claims=[{"name": "models"}, {"name": "spare"}],
        ),
        id="sources of every kind",
    ),
    *(
        pytest.param(written(storage={"modelStore": store}), id=f"a store: {next(iter(store))}")
        for store in (
            {"emptyDir": {"sizeLimit": "10Gi", "medium": "Memory"}},
            {"persistentVolumeClaim": {"claimName": "models"}},
            {"image": {"reference": "registry.example.org/wine@sha256:ab"}},
            {"ephemeral": {"volumeClaimTemplate": {"spec": {"anything": [None, 1]}}}},
        )
    ),
    pytest.param(
        written(
            resources={"requests": {"cpu": 2, "memory": "1.5Gi"}, "limits": {"nvidia.com/gpu": 1}},
            scheduling={
                "nodeSelector": {"zone": "a"},
                "tolerations": [{"operator": "Exists"}],
                "affinity": {"nodeAffinity": {}},
                "topologySpread": "None",
                "priorityClassName": "high",
                "queueName": "team-a",
            },
            podTemplate={"metadata": {"labels": {"a": "b"}}},
            networkPolicy="None",
            service={"type": "LoadBalancer", "annotations": {"a.example.org/b": "c"}},
        ),
        id="where pods run and with what",
    ),
    pytest.param(
        written(
            model(timeouts={"response": "1m20s"}, batching={"maxDelay": "0s"}),
            disruption={"terminationGracePeriod": "90s", "podDisruptionBudget": "None"},
            rollout={"strategy": "Hot", "hot": {"maxUnavailablePods": "25%"}, "paused": True},
        ),
        id="delay and slowest answer fill the grace to the last second",
    ),
]


@pytest.mark.parametrize("body", ACCEPTED)
def test_a_good_object_is_taken_by_both(namespace, body):
    parse(body)
    taken = namespace.apply(body)
    parse(taken)  # with the defaults and what the server adds


DEFAULTS = {
    "disruption": {
        "drainDelay": "10s",
        "podDisruptionBudget": "Auto",
        "terminationGracePeriod": "2m30s",
    },
    "models": [
        {
            "name": "classifier",
            "version": "1.0",
            "source": {"uri": "file:///models/classifier-1.0.mar"},
            "required": True,
            "workers": {"min": 1},
            "batching": {"maxSize": 1, "maxDelay": "100ms"},
            "timeouts": {"response": "2m", "startup": "5m"},
        }
    ],
    "networkPolicy": "Managed",
    "rollout": {"paused": False, "progressDeadline": "1h", "strategy": "Hot"},
    "runtime": {"grpc": False, "pullPolicy": "IfNotPresent"},
    "scheduling": {"topologySpread": "Auto"},
    "service": {"type": "ClusterIP", "port": 80},
    "suspend": False,
}


def test_the_shortest_object_is_filled_in_with_exactly_these_defaults(namespace):
    assert namespace.apply(written())["spec"] == DEFAULTS


@pytest.mark.parametrize(
    ("chosen", "path", "value"),
    [
        pytest.param(
            {"rollout": {"hot": {}}},
            ("rollout", "hot", "maxUnavailablePods"),
            1,
            id="one pod changes at a time",
        ),
        pytest.param(
            {"autoscaling": HPA}, ("autoscaling", "hpa", "min"), 1, id="an autoscaler keeps one pod"
        ),
        pytest.param(
            {"storage": {"modelStore": {"persistentVolumeClaim": {"claimName": "a"}}}},
            ("storage", "modelStore", "persistentVolumeClaim", "readOnly"),
            True,
            id="a claim is only read",
        ),
    ],
)
def test_what_a_user_chooses_is_filled_in_too(namespace, chosen, path, value):
    found = namespace.apply(written(**chosen))["spec"]
    for step in path:
        found = found[step]
    assert found == value


def test_a_warm_up_request_is_json_sent_once_unless_it_says_otherwise(namespace):
    taken = namespace.apply(written(model(warmup={"requests": [{"body": "{}"}]})))
    assert taken["spec"]["models"][0]["warmup"] == {
        "requests": [{"body": "{}", "contentType": "application/json", "repeat": 1}]
    }


def test_an_object_that_no_operator_has_seen_says_so(namespace):
    namespace.apply(written())
    assert namespace.read()["status"] == {
        "observedGeneration": -1,
        "conditions": [
            {
                "type": "Ready",
                "status": "Unknown",
                "reason": "Pending",
                "message": "Waiting for the operator",
                "lastTransitionTime": "1970-01-01T00:00:00Z",
            }
        ],
    }


# Edits


def pinned(version: str, digit: str) -> dict[str, Any]:
    source = {"uri": "https://example.org/a.mar", "digest": f"sha256:{digit * 64}"}
    return written(model(version=version, source=source))


def test_a_version_never_changes_its_content(namespace):
    namespace.apply(pinned("1.0", "a"))
    said = namespace.refusal(pinned("1.0", "b"))
    assert (
        f'{MODEL}.version: Invalid value: "object": has this version with another digest '
        "already: give the new archive a new version"
    ) in said
    namespace.apply(pinned("1.1", "b"))


def test_replicas_must_be_said_when_autoscaling_goes(namespace):
    namespace.apply(written(autoscaling=HPA))
    assert (
        'spec.replicas: Invalid value: "object": must be set when autoscaling is removed: to the '
        "number of pods that shall stay"
    ) in namespace.refusal(written())
    namespace.apply(written(replicas=3))


def test_the_way_out_that_is_told_leads_out(namespace):
    """`kubectl scale` writes replicas as its own: an apply that never had them leaves them."""
    side = ("--server-side",)
    namespace.apply(written(), *side)
    namespace.run("scale", "modeldeployment/vision", "--replicas=2")
    said = namespace.refusal(written(autoscaling=HPA), *side)
    told = re.search(r"kubectl patch mdep NAME --type=json -p '(.*?)'", said)
    namespace.run("patch", "mdep", "vision", "--type=json", "-p", told.group(1))
    namespace.apply(written(autoscaling=HPA), *side)
    assert "replicas" not in namespace.read()["spec"]


# What kubectl makes of it


def test_an_unknown_field_is_an_error_of_kubectl_apply(namespace):
    said = namespace.refusal(written(model(worker={"min": 2}), replica=3))
    assert 'unknown field "spec.models[0].worker"' in said
    assert 'unknown field "spec.replica"' in said


def test_one_model_can_be_applied_without_naming_the_others(namespace):
    namespace.apply(written(), "--server-side")
    second = written(model_body("second"))
    namespace.apply(second, "--server-side", "--field-manager=other")
    assert [each["name"] for each in namespace.read()["spec"]["models"]] == ["classifier", "second"]


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("mdep", "Models, the pods that serve them, and how both change."),
        ("mdep.spec.models", "The target; the operator rolls to it from whatever is active."),
        (
            "mdep.spec.models.source.uri",
            "`configmap://NAME/KEY`, `pvc://CLAIM/PATH`, http or file.",
        ),
        ("mdep.spec.route", "Reserved: it is not supported by this version."),
        ("mdep.status.models", "Percent of the requests that the target version gets."),
    ],
)
def test_kubectl_explain_speaks_our_words(server, path, words):
    assert words in " ".join(server.run("explain", path).split())


def test_kubectl_scale_sets_the_replicas_and_reads_the_pods_from_the_status(namespace):
    namespace.apply(written(replicas=1))
    selector = "serving.flambeau.dev/name=vision"
    report(namespace, {"replicas": 1, "selector": selector})
    namespace.run("scale", "mdep/vision", "--replicas=4")
    scale = namespace.run(
        "get", "--raw", f"/apis/{GROUP}/namespaces/{namespace.name}/modeldeployments/vision/scale"
    )
    assert namespace.read()["spec"]["replicas"] == 4
    assert json.loads(scale)["spec"] == {"replicas": 4}
    assert json.loads(scale)["status"] == {"replicas": 1, "selector": selector}


GROUP = "serving.flambeau.dev/v1alpha1"


def report(namespace: Namespace, status: Mapping[str, Any]) -> None:
    """Write into the status, as the operator does."""
    patch = ("patch", "mdep", "vision", "--subresource=status", "--type=merge")
    namespace.run(*patch, "-p", json.dumps({"status": status}))


def test_kubectl_get_shows_what_there_is_to_know(namespace):
    namespace.apply(written())
    ready = {
        "type": "Ready",
        "status": "True",
        "reason": "AllModelsServing",
        "message": "",
        "lastTransitionTime": "2026-01-01T12:00:00Z",
    }
    status = {"summary": "classifier@1.0", "workers": "4/4", "replicas": 2, "url": "http://vision"}
    report(namespace, {**status, "conditions": [ready]})
    head, line = namespace.run("get", "mdep").splitlines()
    assert head.split() == ["NAME", "READY", "REASON", "MODELS", "WORKERS", "REPLICAS", "AGE"]
    assert line.split()[:-1] == [
        *("vision", "True", "AllModelsServing", "classifier@1.0", "4/4", "2")
    ]
    assert "http://vision" in namespace.run("get", "mdep", "-o", "wide")


def test_an_edit_of_the_spec_does_not_touch_the_status_nor_the_other_way_round(namespace):
    namespace.apply({**written(), "status": {"summary": "mine"}})
    report(namespace, {"summary": "classifier@1.0"})
    namespace.apply({**written(replicas=2), "status": {"summary": "mine"}})
    found = namespace.read()
    assert found["status"]["summary"] == "classifier@1.0"
    assert found["metadata"]["generation"] == 2


def test_it_is_among_flambeaus_things_and_not_among_those_that_delete_all_takes(namespace):
    namespace.apply(written())
    assert "vision" in namespace.run("get", "flambeau")
    namespace.run("delete", "all", "--all")
    assert namespace.read()["metadata"]["name"] == "vision"


# Everything that is shown to users


def shown() -> list[Any]:
    """Return every manifest of the examples, and every YAML in a page that is meant to be one."""
    cases = [
        pytest.param(text, id=f"{file.relative_to(ROOT)}")
        for file in sorted((ROOT / "examples").rglob("*.yaml"))
        if "kind: ModelDeployment" in (text := file.read_text(encoding="utf-8"))
    ]
    pages = [ROOT / "README.md", *(ROOT / "docs").rglob("*.md"), *(ROOT / "examples").rglob("*.md")]
    for page in sorted(pages):
        blocks = YAML_BLOCK.findall(page.read_text(encoding="utf-8"))
        cases += [
            pytest.param(whole, id=f"{page.relative_to(ROOT)}, block {number}")
            for number, block in enumerate(blocks, 1)
            if (whole := as_manifest(block))
        ]
    return cases


def test_the_example_is_applied_as_a_folder(namespace, tmp_path):
    folder = tmp_path / "classifier"
    shutil.copytree(ROOT / "examples" / "classifier", folder)
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    subprocess.run([folder / "build.sh"], check=True, env={**os.environ, "PATH": path})
    namespace.run("apply", "-f", str(folder))
    config_map = json.loads(namespace.run("get", "configmap", "wine-archives", "-o", "json"))
    source = namespace.read("wine")["spec"]["models"][0]["source"]["uri"]
    key = source.removeprefix("configmap://wine-archives/")
    archive = base64.b64decode(config_map["binaryData"][key])
    assert archive == (folder / "wine-archives" / key).read_bytes()


YAML_BLOCK = re.compile(r"^```yaml\n(.*?)^```", re.MULTILINE | re.DOTALL)


def as_manifest(block: str) -> str | None:
    """Return what is shown as something to apply: whole as it is, `spec: …` alone completed."""
    body = next(iter(yaml.safe_load_all(block)))
    if not isinstance(body, dict):
        return None
    if body.keys() == {"spec"}:
        return json.dumps({**written(), "spec": {**written()["spec"], **body["spec"]}})
    return block if "kind: ModelDeployment" in block else None


@pytest.mark.parametrize("text", shown())
def test_what_is_shown_to_users_is_accepted_as_it_stands(namespace, text):
    namespace.run("apply", "--warnings-as-errors", "-f", "-", given=text)
    found = json.loads(namespace.run("get", "modeldeployments", "-o", "json"))["items"]
    assert found
    for each in found:
        parse(each)
