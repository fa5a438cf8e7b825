"""`spec.podTemplate`: what a patch does, and what it must not do."""

from __future__ import annotations

import pytest

from flambeau_operator.plan.patch import patched, problems

BASE = {
    "metadata": {"labels": {"a": "1"}},
    "spec": {
        "containers": [
            {
                "name": "runtime",
                "image": "i",
                "env": [{"name": "A", "value": "1"}, {"name": "B", "value": "2"}],
                "volumeMounts": [{"name": "tmp", "mountPath": "/mnt"}],
                "resources": {"limits": {"cpu": "1"}},
            }
        ],
        "volumes": [{"name": "state", "emptyDir": {}}, {"name": "tmp", "emptyDir": {}}],
        "tolerations": [{"key": "a"}],
    },
}


def container(**changes):
    return {"spec": {"containers": [{"name": "runtime", **changes}]}}


def runtime(template):
    return template["spec"]["containers"][0]


@pytest.mark.parametrize(
    ("patch", "pick", "result"),
    [
        pytest.param(
            {"metadata": {"labels": {"b": "2"}}},
            lambda it: it["metadata"]["labels"],
            {"a": "1", "b": "2"},
            id="a mapping is merged",
        ),
        pytest.param(
            container(image="j"),
            lambda it: (runtime(it)["image"], len(runtime(it)["env"])),
            ("j", 2),
            id="the runtime is found by its name",
        ),
        pytest.param(
            {"spec": {"containers": [{"name": "side", "image": "s"}]}},
            lambda it: [each["name"] for each in it["spec"]["containers"]],
            ["runtime", "side"],
            id="a container of another name is added",
        ),
        pytest.param(
            container(env=[{"name": "C", "value": "3"}, {"name": "A", "value": "9"}]),
            lambda it: runtime(it)["env"],
            [
                {"name": "A", "value": "9"},
                {"name": "B", "value": "2"},
                {"name": "C", "value": "3"},
            ],
            id="a variable is changed in its place, a new one comes last",
        ),
        pytest.param(
            container(env=[{"name": "A", "valueFrom": {"fieldRef": {"fieldPath": "x"}}}]),
            lambda it: runtime(it)["env"][0],
            {"name": "A", "valueFrom": {"fieldRef": {"fieldPath": "x"}}},
            id="a variable of another kind takes the place of the value",
        ),
        pytest.param(
            {"spec": {"volumes": [{"name": "tmp", "hostPath": {"path": "/x"}}]}},
            lambda it: it["spec"]["volumes"][1],
            {"name": "tmp", "hostPath": {"path": "/x"}},
            id="a volume of another kind takes the place of ours",
        ),
        pytest.param(
            {"spec": {"volumes": [{"name": "tmp", "emptyDir": {"sizeLimit": "1Gi"}}]}},
            lambda it: it["spec"]["volumes"][1],
            {"name": "tmp", "emptyDir": {"sizeLimit": "1Gi"}},
            id="a volume of the same kind is merged",
        ),
        pytest.param(
            container(env=[{"name": "A", "$patch": "delete"}]),
            lambda it: runtime(it)["env"],
            [{"name": "B", "value": "2"}],
            id="an item is taken out",
        ),
        pytest.param(
            {"spec": {"tolerations": [{"key": "b"}]}},
            lambda it: it["spec"]["tolerations"],
            [{"key": "b"}],
            id="a list without a key is replaced",
        ),
        pytest.param(
            container(resources={"limits": {"memory": "1Gi"}}),
            lambda it: runtime(it)["resources"]["limits"],
            {"cpu": "1", "memory": "1Gi"},
            id="what is deep inside is merged too",
        ),
        pytest.param(
            {"spec": {"initContainers": [{"name": "i", "env": [{"name": "X", "value": "1"}]}]}},
            lambda it: it["spec"]["initContainers"],
            [{"name": "i", "env": [{"name": "X", "value": "1"}]}],
            id="what was not there is added",
        ),
        pytest.param({}, lambda it: it, BASE, id="an empty patch changes nothing"),
    ],
)
def test_a_patch_is_merged_as_kubectl_does(patch, pick, result):
    assert problems(patch) == ()
    assert pick(patched(BASE, patch)) == result


def test_a_patch_leaves_the_template_it_is_applied_to_alone():
    before = repr(BASE)
    patched(BASE, container(env=[{"name": "A", "value": "9"}], resources={"limits": {"cpu": "2"}}))
    assert repr(BASE) == before


@pytest.mark.parametrize(
    ("patch", "path", "said"),
    [
        pytest.param(
            container(command=["sh"]),
            "spec.podTemplate.spec.containers[0].command",
            "cannot be patched",
            id="the runtime's command",
        ),
        pytest.param(
            container(args=["--x"]),
            "spec.podTemplate.spec.containers[0].args",
            "spec.runtime.config",
            id="the runtime's arguments",
        ),
        pytest.param(
            container(ports=[{"containerPort": 1}]),
            "spec.podTemplate.spec.containers[0].ports",
            "cannot be patched",
            id="the runtime's ports",
        ),
        pytest.param(
            container(**{"$patch": "delete"}),
            "spec.podTemplate.spec.containers[0]",
            "cannot be taken out",
            id="the runtime itself",
        ),
        pytest.param(
            {"spec": {"volumes": [{"name": "state", "$patch": "delete"}]}},
            "spec.podTemplate.spec.volumes[0]",
            "cannot be taken out",
            id="a volume that the runtime needs",
        ),
        pytest.param(
            container(volumeMounts=[{"name": "mine", "mountPath": "/etc/flambeau"}]),
            "spec.podTemplate.spec.containers[0].volumeMounts[0]",
            "belongs to Flambeau",
            id="a mount in front of the committed set",
        ),
        pytest.param(
            {"metadata": {"labels": {"serving.flambeau.dev/name": "x"}}},
            "spec.podTemplate.metadata.labels.serving.flambeau.dev/name",
            "belongs to Flambeau",
            id="the selector's label",
        ),
        pytest.param(
            {"metadata": {"labels": {"serving.flambeau.dev/uid": "x"}}},
            "spec.podTemplate.metadata.labels.serving.flambeau.dev/uid",
            "belongs to Flambeau",
            id="the uid's label",
        ),
        pytest.param(
            {"metadata": {"annotations": {"serving.flambeau.dev/config": "x"}}},
            "spec.podTemplate.metadata.annotations.serving.flambeau.dev/config",
            "belongs to Flambeau",
            id="the configuration's annotation",
        ),
        pytest.param(
            {"spec": {"nodeSelector": {"a": None}}},
            "spec.podTemplate.spec.nodeSelector.a",
            "must not be null",
            id="null",
        ),
        pytest.param(
            {"spec": {"$patch": "replace"}},
            "spec.podTemplate.spec.$patch",
            "only $patch: delete on a list's item is supported",
            id="another directive",
        ),
        pytest.param(
            container(env=[{"name": "A", "$patch": "replace"}]),
            "spec.podTemplate.spec.containers[0].env[0].$patch",
            "only `$patch: delete` with name beside it",
            id="another directive on an item",
        ),
        pytest.param(
            container(env=[{"value": "1"}]),
            "spec.podTemplate.spec.containers[0].env[0]",
            "needs name",
            id="an item that cannot be found",
        ),
        pytest.param(
            {"spec": {"containers": ["runtime"]}},
            "spec.podTemplate.spec.containers[0]",
            "must be a mapping",
            id="an item that is none",
        ),
        pytest.param(
            {"spec": {"containers": {"name": "runtime"}}},
            "spec.podTemplate.spec.containers",
            "must be a list",
            id="a mapping in the place of a list",
        ),
        pytest.param(
            {"spec": []}, "spec.podTemplate.spec", "must be a mapping", id="a list as the spec"
        ),
        pytest.param(
            {"containers": []},
            "spec.podTemplate.containers",
            "only metadata and spec",
            id="a field at the wrong depth",
        ),
        pytest.param(
            {"metadata": {"name": "x"}},
            "spec.podTemplate.metadata.name",
            "only labels and annotations",
            id="a name, which pods get from their Deployment",
        ),
    ],
)
def test_a_patch_that_cannot_be_is_refused_with_its_path(patch, path, said):
    found = problems(patch)
    assert path in [each.path for each in found]
    assert said in next(each.message for each in found if each.path == path)
