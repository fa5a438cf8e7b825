"""What an edit would cost and start, told before it is made."""

import pytest

from flambeau_operator.plan.children import template_hash
from flambeau_operator.plan.edit_costs import Cost, field_changes
from flambeau_operator.plan.entries import entry_hash, spec_hash, target_entry
from flambeau_operator.plan.foresight import foresee
from flambeau_operator.plan.standing import Kind
from flambeau_operator.resources.deployment_status import LastFailure, Status
from flambeau_operator.resources.pod_state import Document, ModelEntry, Owner
from tests.builders import NOON, UID, a_deployment, archive, model_body
from tests.controlplane.rollout_objects import a_model

COLD = {"rollout": {"strategy": "RollingPods"}}


def costs(old, new, committed=()):
    return {each.name: each.cost for each in field_changes(old, new, committed)}


def model(**changes):
    return a_deployment(model_body(**changes))


@pytest.mark.parametrize(
    ("new", "path", "cost"),
    [
        pytest.param(
            model(version="1.1", source={"uri": archive("classifier", "1.0")}),
            "models[classifier].version",
            Cost.ROLLOUT,
            id="version",
        ),
        pytest.param(
            model(source={"uri": archive("other", "1.0")}),
            "models[classifier].source.uri",
            Cost.ROLLOUT,
            id="source",
        ),
        pytest.param(
            model(workers={"min": 2}), "models[classifier].workers.min", Cost.LIVE, id="workers"
        ),
        pytest.param(
            model(batching={"maxSize": 4}),
            "models[classifier].batching.maxSize",
            Cost.LIVE,
            id="batching",
        ),
        pytest.param(
            model(handler={"env": {"A": "1"}}),
            "models[classifier].handler.env.A",
            Cost.WORKERS_RESTART,
            id="environment",
        ),
        pytest.param(
            a_deployment(replicas=3), "replicas", Cost.SCALE, id="as many pods as are wanted"
        ),
        pytest.param(a_deployment(suspend=True), "suspend", Cost.SCALE, id="none at all"),
        pytest.param(
            a_deployment(runtime={"config": {"job_queue_size": "5"}}),
            "runtime.config.job_queue_size",
            Cost.PODS_ROLL,
            id="the runtime's configuration",
        ),
        pytest.param(
            a_deployment(resources={"limits": {"memory": "1Gi"}}),
            "resources.limits.memory",
            Cost.PODS_ROLL,
            id="resources",
        ),
        pytest.param(
            a_deployment(scheduling={"queueName": "q"}),
            "scheduling.queueName",
            Cost.AROUND,
            id="a queue is named by the Deployment, not by pods",
        ),
        pytest.param(
            a_deployment(disruption={"drainDelay": "5s"}),
            "disruption.drainDelay",
            Cost.PODS_ROLL,
            id="a flag of the runtime",
        ),
        pytest.param(
            a_deployment(disruption={"podDisruptionBudget": "None"}),
            "disruption.podDisruptionBudget",
            Cost.AROUND,
            id="an object beside the pods",
        ),
        pytest.param(
            a_deployment(service={"port": 8080}), "service.port", Cost.AROUND, id="the Service"
        ),
        pytest.param(
            a_deployment(rollout={"paused": True}), "rollout.paused", Cost.RULES, id="rules"
        ),
    ],
)
def test_a_field_costs_what_a_pass_would_do_about_it(new, path, cost):
    assert costs(a_deployment(), new) == {path: cost}


def test_pods_roll_if_and_only_if_the_hash_of_their_template_is_another_one():
    parts = {
        "runtime": {"grpc": True},
        "resources": {"requests": {"cpu": "1"}},
        "scheduling": {"nodeSelector": {"a": "b"}},
        "storage": {"modelStore": {"emptyDir": {"sizeLimit": "1Gi"}}},
        "podTemplate": {"metadata": {"labels": {"a": "b"}}},
        "configMaps": [{"name": "files"}],
        "claims": [{"name": "claim"}],
        "service": {"type": "NodePort"},
        "networkPolicy": "None",
        "replicas": 2,
        "rollout": {"progressDeadline": "5m"},
    }
    old = a_deployment()
    for name, part in parts.items():
        new = a_deployment(**{name: part})
        rolls = template_hash(new) != template_hash(old)
        assert rolls == (Cost.PODS_ROLL in costs(old, new).values()), name
    assert {
        name
        for name in parts
        if template_hash(a_deployment(**{name: parts[name]})) != (template_hash(old))
    } == {"runtime", "resources", "scheduling", "storage", "podTemplate", "configMaps", "claims"}


def test_what_is_written_out_though_it_is_the_default_is_no_change():
    written = a_deployment(model_body(workers={"min": 1}, batching={}), replicas=None, rollout={})
    assert costs(a_deployment(), written) == {}


def test_models_are_told_apart_by_name_and_versions_of_a_split_by_version():
    old = a_deployment(model_body("a"), model_body("b"))
    new = a_deployment(model_body("b"), model_body("a", "1.1"))
    assert set(costs(old, new)) == {"models[a].version", "models[a].source.uri"}
    split = {"versions": [{"version": "0.9", "weight": 5, "source": {"uri": archive("a", "0.9")}}]}
    heavier = {"versions": [{**split["versions"][0], "weight": 9}]}
    one, other = (a_deployment(model_body("a", split=each)) for each in (split, heavier))
    assert costs(one, other) == {"models[a].split.versions[0.9].weight": Cost.LIVE}
    comes = costs(a_deployment(model_body("a")), one)
    assert comes["models[a].split.versions[0.9].source.uri"] is Cost.ROLLOUT


# --- what follows -------------------------------------------------------------------------------


def as_is(*models, status=None, **spec):
    """Return the object as it stands, and what is committed: its own versions."""
    models = models or (model_body(),)
    standing = status or [
        a_model(active=it["version"], target=it["version"], name=it["name"]) for it in models
    ]
    old = a_deployment(
        *models, status=Status(observed_generation=1, models=tuple(standing)), **spec
    )
    entries = [target_entry(each) for each in old.spec.models]
    committed = Document(
        Owner("default", "vision", UID),
        1,
        1,
        tuple(
            ModelEntry(each.name, entry.version, (entry,))
            for each, entry in zip(old.spec.models, entries, strict=True)
        ),
    )
    return old, committed


def test_another_version_is_a_rollout_with_its_steps_and_the_hash_that_commands_name():
    old, committed = as_is()
    steps = [{"weight": 5, "pause": "2m"}, {"weight": 50, "pause": "30s"}, {"weight": 100}]
    new = a_deployment(model_body(version="1.1"), rollout={"hot": {"steps": steps}})
    (found,) = foresee(old, new, committed).models
    assert (found.kind, found.active, found.target) == (Kind.CANDIDATE, "1.0", "1.1")
    assert [step.weight for step in found.steps] == [5, 50]  # the last one is the promotion
    assert found.at_least_s == 150
    assert found.hash == spec_hash(target_entry(new.spec.models[0]))
    assert found.mode == "Auto"
    assert "by the memory that the pods measure" in found.mode_reason


def test_settings_beside_another_version_come_with_it_but_workers_are_the_models_own():
    old, committed = as_is()
    new = a_deployment(model_body(version="1.1", batching={"maxSize": 4}, workers={"min": 3}))
    found = {each.name: each.cost for each in foresee(old, new, committed).changes}
    assert found["models[classifier].batching.maxSize"] is Cost.ROLLOUT
    assert found["models[classifier].workers.min"] is Cost.LIVE


def test_with_rolling_pods_another_version_replaces_the_pods():
    old, committed = as_is(**COLD)
    new = a_deployment(model_body(version="1.1"), **COLD)
    found = foresee(old, new, committed)
    assert found.models[0].mode == "RollingPods"
    assert found.pods_roll_for == ("models[classifier].version", "models[classifier].source.uri")


def test_a_named_mode_is_the_mode_and_a_new_model_needs_no_room_of_an_old_version():
    old, committed = as_is()
    named = {"hot": {"mode": "Recreate"}}
    new = a_deployment(model_body(version="1.1"), model_body("detector"), rollout=named)
    modes = {each.name: each.mode for each in foresee(old, new, committed).models}
    assert modes == {"classifier": "Recreate", "detector": "SideBySide"}


def test_the_same_archive_elsewhere_is_no_rollout():
    digest = "sha256:" + "a" * 64
    old, committed = as_is(model_body(source={"uri": archive("a", "1"), "digest": digest}))
    new = a_deployment(model_body(source={"uri": archive("b", "1"), "digest": digest}))
    found = foresee(old, new, committed)
    assert found.models[0].kind is Kind.SETTLED
    assert [each.cost for each in found.changes] == [Cost.LIVE]


def test_another_archive_under_the_same_version_would_be_refused():
    old, committed = as_is()
    new = a_deployment(model_body(source={"uri": archive("other", "1.0")}))
    (found,) = foresee(old, new, committed).models
    assert found.kind is Kind.REUSED
    assert "give the new archive a new version" in found.note


def test_what_failed_before_is_not_tried_again_and_that_is_said():
    new = a_deployment(model_body(version="1.1"))
    failed = entry_hash(target_entry(new.spec.models[0]))
    failure = LastFailure(reason="AnalysisFailed", message="errors 12 %", time=NOON)
    before = a_model("RolledBack", target="1.1", failed_hash=failed, last_failure=failure)
    old, committed = as_is(status=[before])
    (found,) = foresee(old, new, committed).models
    assert found.kind is Kind.REMEMBERED
    assert "failed before (AnalysisFailed: errors 12 %)" in found.note


def test_a_candidate_on_its_way_goes_on_or_is_dropped():
    new = a_deployment(model_body(version="1.1"))
    on_its_way = spec_hash(target_entry(new.spec.models[0]))
    running = a_model("Canary", target="1.1", spec_hash=on_its_way, candidate="1.1")
    old, committed = as_is(status=[running])
    assert foresee(old, new, committed).models[0].note == "it is on its way already, and goes on"
    another = a_deployment(model_body(version="1.2"))
    dropped = "classifier@1.1, which is on its way, is dropped"
    assert foresee(old, another, committed).models[0].note == dropped


def test_without_the_committed_set_the_status_is_believed():
    old, _ = as_is()
    (found,) = foresee(old, a_deployment(model_body(version="1.1")), None).models
    assert (found.kind, found.active) == (Kind.CANDIDATE, "1.0")
    assert foresee(old, a_deployment(), None).models[0].kind is Kind.SETTLED


def test_the_first_version_is_loaded_at_once():
    found = foresee(None, a_deployment(), None)
    assert found.models[0].kind is Kind.UNPROTECTED
    assert found.models[0].note == "classifier@1.0 is loaded at once: the first version"


def test_versions_of_a_split_come_in_beside_the_models_own():
    split = {"versions": [{"version": "0.9", "weight": 5, "source": {"uri": archive("a", "0.9")}}]}
    old, committed = as_is()
    found = foresee(old, a_deployment(model_body(split=split)), committed).models
    assert [(each.target, each.kind, each.beside) for each in found] == [
        ("1.0", Kind.SETTLED, False),
        ("0.9", Kind.CANDIDATE, True),
    ]


def test_a_model_that_leaves_is_named():
    old, committed = as_is(model_body("a"), model_body("b"))
    assert foresee(old, a_deployment(model_body("a")), committed).leaving == ("b",)


def test_modes_that_pods_were_asked_for_count_more_than_what_a_spec_can_tell():
    old, committed = as_is()
    found = foresee(old, a_deployment(model_body(version="1.1")), committed)
    told = found.with_modes({"classifier@1.1": ("Recreate", "no room")}).models[0]
    assert (told.mode, told.mode_reason) == ("Recreate", "no room")
