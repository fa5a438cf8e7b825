"""When two wishes are the same: content, candidate, remembered failure, pod template."""

from __future__ import annotations

import pytest

from flambeau_operator.plan.children import template_hash
from flambeau_operator.plan.entries import entry_hash, same_content, spec_hash, target_entry
from flambeau_operator.resources.model_deployment import Model
from flambeau_operator.resources.pod_state import SourceEntry
from tests.builders import a_deployment, model_body

A, B = "sha256:" + "a" * 64, "sha256:" + "b" * 64


@pytest.mark.parametrize(
    ("old", "resolved", "new", "same"),
    [
        pytest.param(("u", None), None, ("u", None), True, id="one address, nothing pinned"),
        pytest.param(("u", None), A, ("v", None), False, id="another address, nothing pinned"),
        pytest.param(("u", A), None, ("v", A), True, id="a mirror with the same pin"),
        pytest.param(("u", A), None, ("u", B), False, id="another pin"),
        pytest.param(("u", None), A, ("u", A), True, id="a pin that confirms what the pods found"),
        pytest.param(("u", None), A, ("u", B), False, id="a pin that denies what the pods found"),
        pytest.param(("u", None), None, ("u", B), True, id="a pin on what nobody has measured yet"),
        pytest.param(("u", A), A, ("u", None), True, id="a pin that is taken off"),
    ],
)
def test_two_sources_hold_the_same_archive(old, resolved, new, same):
    assert same_content(SourceEntry(*old), resolved, SourceEntry(*new)) is same


@pytest.mark.parametrize(
    ("uri", "in_the_pod"),
    [
        pytest.param(
            "configmap://archives/classifier-1.0.mar",
            "file:///mnt/configmaps/archives/classifier-1.0.mar",
            id="a ConfigMap's key is a file",
        ),
        pytest.param(
            "pvc://models/a/b.mar", "file:///mnt/claims/models/a/b.mar", id="so is a claim's path"
        ),
        pytest.param("https://host/a.mar", "https://host/a.mar", id="an address stays"),
        pytest.param("file:///a.mar", "file:///a.mar", id="and so does a file"),
    ],
)
def test_a_pod_is_told_where_it_finds_what_is_mounted(uri, in_the_pod):
    mounted = {"configMaps": [{"name": "archives"}], "claims": [{"name": "models"}]}
    deployment = a_deployment(model_body(source={"uri": uri}), **mounted)
    assert target_entry(deployment.spec.models[0]).source.uri == in_the_pod


def model(**changes) -> Model:
    return a_deployment(model_body(**changes)).spec.models[0]


@pytest.mark.parametrize(
    ("changes", "other_candidate", "other_failure"),
    [
        pytest.param({"version": "2.0"}, True, True, id="the version"),
        pytest.param({"source": {"uri": "file:///b.mar"}}, True, True, id="the source"),
        pytest.param({"batching": {"maxSize": 2}}, False, True, id="batching"),
        pytest.param({"timeouts": {"startup": "9s"}}, False, True, id="timeouts"),
        pytest.param({"handler": {"env": {"A": "1"}}}, False, True, id="the environment"),
        pytest.param({"warmup": {"requests": [{"body": "x"}]}}, False, True, id="the warm-up"),
        pytest.param({"workers": {"min": 2}}, False, False, id="workers"),
        pytest.param({"required": False}, False, False, id="whether it is required"),
    ],
)
def test_what_makes_another_candidate_and_what_forgets_a_failure(
    changes, other_candidate, other_failure
):
    before, after = target_entry(model()), target_entry(model(**changes))
    assert (spec_hash(before) != spec_hash(after)) is other_candidate
    assert (entry_hash(before) != entry_hash(after)) is other_failure


@pytest.mark.parametrize(
    ("spec", "golden"),
    [
        pytest.param({}, "65d03bbad65e", id="nothing configured"),
        pytest.param(
            {"runtime": {"config": {"job_queue_size": "100"}}},
            "2021b1a4f1ab",
            id="one key configured",
        ),
        pytest.param({"resources": {"limits": {"cpu": 1}}}, "8658fa75f9f0", id="a limit"),
        pytest.param(
            {"configMaps": [{"name": "b"}, {"name": "a"}]}, "e810122cfcc4", id="ConfigMaps"
        ),
        pytest.param(
            {"disruption": {"drainDelay": "5s"}}, "98996bb99e63", id="another drain delay"
        ),
    ],
)
def test_an_unchanged_spec_has_the_same_pod_template_in_every_release(spec, golden):
    assert template_hash(a_deployment(**spec)) == golden


def test_other_credentials_are_no_rollout_and_a_second_chance():
    def entry(**source):
        uri = {"uri": "s3://models/a.mar", **source}
        return target_entry(Model.model_validate(model_body(source=uri)))

    none, some = entry(), entry(credentials="s3-read")
    assert some.source.credentials == "s3-read"
    assert spec_hash(none) == spec_hash(some)
    assert entry_hash(none) != entry_hash(some)


def test_pods_are_replaced_for_credentials_and_a_cache_and_for_nothing_unsaid():
    secret = {"name": "s3-read", "secretRef": {"name": "keys"}}
    specs = [
        {},
        {"credentials": [secret]},
        {"credentials": [{**secret, "secretRef": {"name": "others"}}]},
        {"storage": {"cache": {"emptyDir": {}}}},
    ]
    hashes = [template_hash(a_deployment(**spec)) for spec in specs]
    assert len(set(hashes)) == len(specs)
    assert template_hash(a_deployment(credentials=[])) == hashes[0]
