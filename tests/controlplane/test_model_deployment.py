"""What a ModelDeployment may say, and what is answered to one that may not."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, strategies as st

from flambeau_operator.errors import InvalidSpec
from flambeau_operator.resources.model_deployment import parse
from flambeau_operator.resources.quantities import format_duration, parse_duration, share_of
from tests.builders import deployment_body, model_body


def problems(body: dict[str, Any]) -> dict[str, str]:
    """Return what is said about each wrong field."""
    with pytest.raises(InvalidSpec) as caught:
        parse(body)
    return {each.path: str(each).removeprefix(f"{each.path}: ") for each in caught.value.problems}


def test_the_shortest_deployment_has_the_documented_defaults():
    spec = parse(deployment_body()).spec
    model = spec.models[0]
    assert spec.pods_wanted() == 1
    assert (model.required, model.workers.min, model.batching.max_size) == (True, 1, 1)
    assert model.batching.max_delay_s == 0.1
    assert (model.timeouts.response_s, model.timeouts.startup_s) == (120.0, 300.0)
    assert spec.rollout.in_pods.max_unavailable_pods == 1
    assert spec.rollout.progress_deadline_s == 3600.0
    assert spec.service.port == 80
    assert spec.disruption.termination_grace_period_s == 150.0
    assert spec.disruption.drain_delay_s == 10.0


def test_suspended_wants_no_pods_whatever_replicas_says():
    assert parse(deployment_body(replicas=3, suspend=True)).spec.pods_wanted() == 0


MODEL = "spec.models[0]"


@pytest.mark.parametrize(
    ("body", "path", "said"),
    [
        pytest.param(
            deployment_body(model_body(worker={})),
            f"{MODEL}.worker",
            "unknown field, did you mean 'workers'?",
            id="an unknown field is named with its path and the nearest known name",
        ),
        pytest.param(
            deployment_body(model_body(batching={"max_size": 2})),
            f"{MODEL}.batching.max_size",
            "unknown field, did you mean 'maxSize'?",
            id="another spelling of a field is unknown too",
        ),
        pytest.param(
            deployment_body(zzz=1), "spec.zzz", "unknown field", id="nothing near, no guess"
        ),
        pytest.param(
            deployment_body(route={}),
            "spec.route",
            "is not supported by this version",
            id="a field of the API that comes later is called unsupported, not unknown",
        ),
        pytest.param(
            deployment_body(model_body(workers={"devicesPerWorker": 2})),
            f"{MODEL}.workers.devicesPerWorker",
            "is not supported by this version",
            id="and so inside a model",
        ),
        pytest.param(
            deployment_body(model_body(version=1.0)),
            f"{MODEL}.version",
            "must be a string: write '1.0' in quotes",
            id="a version that YAML reads as a number wants quotes",
        ),
        pytest.param(
            deployment_body(model_body(handler={"env": {"A": False}})),
            f"{MODEL}.handler.env.A",
            "must be a string: write 'false' in quotes",
            id="a variable that YAML reads as a truth value wants quotes",
        ),
        pytest.param(
            deployment_body(model_body(source={"uri": "ftp://host/a.mar"})),
            f"{MODEL}.source.uri",
            "'ftp://host/a.mar' is not an address: use http, https, s3, gs, az, hf, oci, file, pvc "
            "or configmap",
            id="a scheme that nobody speaks",
        ),
        pytest.param(
            deployment_body(model_body(source={"uri": "s3://b/a.mar", "credentials": "s3-read"})),
            f"{MODEL}.source.credentials",
            "is not known: add an entry s3-read with a secretRef to spec.credentials",
            id="credentials that the spec does not name",
        ),
        pytest.param(
            deployment_body(
                model_body(source={"uri": "file:///a.mar", "credentials": "s3-read"}),
                credentials=[{"name": "s3-read", "secretRef": {"name": "keys"}}],
            ),
            f"{MODEL}.source.credentials",
            "is of no use for what is mounted already: leave it out",
            id="credentials for a file",
        ),
        pytest.param(
            deployment_body(
                storage={"cache": {"emptyDir": {}, "ephemeral": {"volumeClaimTemplate": {}}}}
            ),
            "spec.storage.cache",
            "must be exactly one of emptyDir, persistentVolumeClaim and ephemeral",
            id="a cache of two kinds",
        ),
        pytest.param(
            deployment_body(model_body(source={"uri": "a.mar"})),
            f"{MODEL}.source.uri",
            "'a.mar' is not an address: use http, https, s3, gs, az, hf, oci, file, pvc or "
            "configmap",
            id="a source without a scheme",
        ),
        pytest.param(
            deployment_body(model_body(source={})),
            f"{MODEL}.source.uri",
            "is missing",
            id="a source without an address",
        ),
        pytest.param(
            deployment_body(model_body(workers={"min": "2"})),
            f"{MODEL}.workers.min",
            "must be a whole number",
            id="a number in quotes is no number",
        ),
        pytest.param(
            deployment_body(model_body(workers={"min": 0})),
            f"{MODEL}.workers.min",
            "must be at least 1",
            id="a model without workers",
        ),
        pytest.param(
            deployment_body(suspend="yes"),
            "spec.suspend",
            "must be true or false",
            id="a word for a truth value",
        ),
        pytest.param(
            deployment_body(model_body(batching={"maxDelay": 0.1})),
            f"{MODEL}.batching.maxDelay",
            "must be a duration like 500ms, 30s, 5m or 1h30m, in quotes",
            id="a duration without a unit",
        ),
        pytest.param(
            deployment_body(model_body(timeouts={"response": "0s"})),
            f"{MODEL}.timeouts.response",
            "must be more than 0",
            id="no patience at all",
        ),
        pytest.param(
            deployment_body(rollout={"hot": {"maxUnavailablePods": "0%"}}),
            "spec.rollout.hot.maxUnavailablePods",
            "must be a number of at least 1, or a percentage from 1% to 100%",
            id="a rollout in which no pod may change",
        ),
        pytest.param(
            deployment_body(model_body(), model_body()),
            "spec.models[1].name",
            "'classifier' is named twice",
            id="two models of one name",
        ),
        pytest.param(
            deployment_body(rollout={"strategy": "BlueGreen"}),
            "spec.rollout.strategy",
            "must be 'Hot' or 'RollingPods'",
            id="a strategy that nobody knows",
        ),
        pytest.param(
            deployment_body(replicas=2, autoscaling={"hpa": {"max": 4}}),
            "spec.replicas",
            "cannot stand beside autoscaling. Where kubectl scale has left it behind: kubectl "
            """patch mdep NAME --type=json -p '[{"op": "remove", "path": "/spec/replicas"}]'""",
            id="two who decide how many pods run",
        ),
        pytest.param(
            deployment_body(autoscaling={}),
            "spec.autoscaling",
            "must name its kind: hpa",
            id="autoscaling of no kind",
        ),
        pytest.param(
            deployment_body(autoscaling={"hpa": {"min": 5, "max": 4}}),
            "spec.autoscaling.hpa.max",
            "must not be less than min",
            id="a range that is upside down",
        ),
        pytest.param(
            deployment_body(storage={"modelStore": {}}),
            "spec.storage.modelStore",
            "must be exactly one of emptyDir, persistentVolumeClaim, image and ephemeral",
            id="a model store of no kind",
        ),
        pytest.param(
            deployment_body(model_body(), model_body("b", source={"uri": "pvc://models/b.mar"})),
            "spec.models[1].source.uri",
            "is not mounted: add {name: models} to spec.claims",
            id="a source on a claim that no pod has",
        ),
        pytest.param(
            deployment_body(
                model_body(source={"uri": "pvc://models/../b.mar"}), claims=[{"name": "models"}]
            ),
            "spec.models[0].source.uri",
            "must be pvc://CLAIM/PATH: a claim and a path below its root, without ..",
            id="a source beside the claim it names",
        ),
        pytest.param(
            deployment_body(configMaps=[{"name": "a"}, {"name": "a"}]),
            "spec.configMaps[1].name",
            "'a' is named twice",
            id="one ConfigMap twice",
        ),
        pytest.param(
            {**deployment_body(), "spec": {"models": []}},
            "spec.models",
            "must not be empty",
            id="no model",
        ),
        pytest.param(
            {**deployment_body(), "spec": {"models": {"a": 1}}},
            "spec.models",
            "must be a list",
            id="a mapping where a list belongs",
        ),
        pytest.param(
            deployment_body(metadata={"name": "My_Model"}),
            "metadata.name",
            "'My_Model' does not match ^[a-z]([-a-z0-9]*[a-z0-9])?$",
            id="a name that no Service could have",
        ),
        pytest.param(
            {**deployment_body(), "kind": "Deployment"},
            "kind",
            "must be ModelDeployment, is 'Deployment'",
            id="another kind",
        ),
        pytest.param(
            {**deployment_body(), "apiVersion": "v1"},
            "apiVersion",
            "must be serving.flambeau.dev/v1alpha1, is 'v1'",
            id="another API",
        ),
    ],
)
def test_a_wrong_field_is_refused_in_plain_words(body, path, said):
    assert problems(body)[path] == said


def test_every_wrong_field_is_named_at_once_and_no_other():
    body = deployment_body(
        model_body(version=2, worker={}, source={"uri": "x"}), replicas=-1, paused=True
    )
    assert set(problems(body)) == {
        "spec.models[0].version",
        "spec.models[0].worker",
        "spec.models[0].source.uri",
        "spec.replicas",
        "spec.paused",
    }


def test_a_pod_must_have_time_to_answer_what_it_has_begun():
    said = problems(deployment_body(model_body(timeouts={"response": "200s"})))
    message = said["spec.disruption.terminationGracePeriod"]
    for part in ("disruption.drainDelay (10s)", "timeouts.response (3m20s)", "is 2m30s"):
        assert part in message


@pytest.mark.parametrize(
    ("text", "seconds"), [("50ms", 0.05), ("30s", 30.0), ("1h30m", 5400.0), ("1m500ms", 60.5)]
)
def test_durations_are_read_as_people_write_them(text, seconds):
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "5", "-5s", "1 day", "P1D", "1.5s", "s", 5, None, True])
def test_nothing_else_is_a_duration(text):
    with pytest.raises(ValueError, match="must be a duration"):
        parse_duration(text)


@given(st.integers(0, 86_400_000))
def test_a_duration_that_was_written_is_read_again(milliseconds):
    assert parse_duration(format_duration(milliseconds / 1000)) == milliseconds / 1000


@given(st.one_of(st.integers(1, 50), st.integers(1, 100).map("{}%".format)), st.integers(0, 50))
def test_a_share_always_lets_at_least_one_pod_change(share, total):
    assert share_of(share, total) >= 1


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["models", "name", "source", "uri", "version", "workers", "min", "x"]),
            inner,
            max_size=4,
        )
    ),
    max_leaves=20,
)


def wrong_paths(body: dict[str, Any]) -> list[str]:
    """Return the paths of what is refused, if anything is."""
    try:
        parse(body)
    except InvalidSpec as error:
        return [each.path for each in error.problems]
    return []


@given(anything)
def test_whatever_a_spec_holds_it_is_parsed_or_refused_with_paths(spec):
    paths = wrong_paths({**deployment_body(), "spec": spec})
    assert all(path.startswith("spec") for path in paths)


@given(anything)
def test_whatever_metadata_holds_it_is_parsed_or_refused_with_paths(metadata):
    paths = wrong_paths({**deployment_body(), "metadata": metadata})
    assert all(path.startswith("metadata") for path in paths)


@pytest.mark.parametrize(
    ("traffic", "path"),
    [
        pytest.param(
            {"split": {"versions": [{"version": "0.9", "weight": 10, "source": None}]}},
            f"{MODEL}.split.versions[0].source",
            id="of a split",
        ),
        pytest.param(
            {"shadow": {"version": "2.0", "source": None}},
            f"{MODEL}.shadow.source",
            id="a shadow's",
        ),
    ],
)
@pytest.mark.parametrize(
    ("source", "field", "message"),
    [
        pytest.param(
            {"uri": "pvc://claim/model.mar"},
            "uri",
            "is not mounted: add {name: claim} to spec.claims",
            id="a claim",
        ),
        pytest.param(
            {"uri": "s3://bucket/model.mar", "credentials": "s3"},
            "credentials",
            "is not known: add an entry s3 with a secretRef to spec.credentials",
            id="a Secret",
        ),
    ],
)
def test_what_a_version_beside_reads_from_must_be_there(traffic, path, source, field, message):
    said = json.loads(json.dumps(traffic).replace("null", json.dumps(source)))
    with pytest.raises(InvalidSpec) as refused:
        parse(deployment_body(model_body(**said)))
    assert [(each.path, each.message) for each in refused.value.problems] == [
        (f"{path}.{field}", message)
    ]
