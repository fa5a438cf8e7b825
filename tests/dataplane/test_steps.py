"""The converger's decisions: pure tables, and the law that they reach the wish from anywhere."""

from dataclasses import replace

import pytest
from hypothesis import given, settings, strategies as st

from flambeau_runtime.serving.desired import Document, ModelSpec, Source, Swap
from flambeau_runtime.serving.steps import (
    ALIVE,
    ARRIVED,
    Apply,
    Facts,
    Fetch,
    Load,
    Retire,
    SetAway,
    SetDefault,
    Stage,
    VersionFacts,
    Warm,
    plan_steps,
    same_content,
)
from tests.dataplane.fake_fleet import document, version

ONE, TWO = version("1.0"), version("2.0")


def facts(*pairs, default: str | None = "1.0", **changes) -> Facts:
    """Facts from (spec, stage) pairs."""
    return Facts(
        {(spec.model, spec.version): VersionFacts(stage, spec) for spec, stage in pairs},
        {} if default is None else {"vision": default},
        **changes,
    )


def test_an_empty_runtime_fetches_every_wanted_version():
    assert plan_steps(document(ONE, TWO), Facts()) == (Fetch(ONE), Fetch(TWO))


@pytest.mark.parametrize(
    ("wanted", "seen", "steps"),
    [
        pytest.param(
            document(ONE),
            facts((ONE, Stage.SERVING)),
            (),
            id="a runtime that is as wanted is left alone",
        ),
        pytest.param(
            document(ONE),
            facts((ONE, Stage.FETCHED), default=None),
            (Load(ONE),),
            id="a fetched version is loaded",
        ),
        pytest.param(
            document(ONE),
            facts((ONE, Stage.LOADED), default=None),
            (Warm(ONE),),
            id="a loaded version is warmed before it answers anybody",
        ),
        pytest.param(
            document(ONE),
            facts((ONE, Stage.SERVING), default=None),
            (SetDefault("vision", "1.0"),),
            id="the default moves once its version serves",
        ),
        pytest.param(
            document(TWO),
            facts((ONE, Stage.SERVING), (TWO, Stage.LOADING)),
            (),
            id="the old default stays while the new one loads, though nobody wants it any more",
        ),
        pytest.param(
            document(TWO),
            facts((ONE, Stage.SERVING), (TWO, Stage.WARMING)),
            (),
            id="the old default stays while the new one is warmed",
        ),
        pytest.param(
            document(TWO),
            facts((ONE, Stage.SERVING), (TWO, Stage.FAILED)),
            (),
            id="the old default stays when the new one failed",
        ),
        pytest.param(
            document(TWO),
            facts((ONE, Stage.SERVING), (TWO, Stage.SERVING)),
            (SetDefault("vision", "2.0"),),
            id="when the new default serves the default moves first",
        ),
        pytest.param(
            document(TWO),
            facts((ONE, Stage.SERVING), (TWO, Stage.SERVING), default="2.0"),
            (Retire("vision", "1.0"),),
            id="then the old version leaves",
        ),
        pytest.param(
            document(),
            facts((ONE, Stage.SERVING)),
            (SetDefault("vision", None), Retire("vision", "1.0")),
            id="a model that is not wanted goes at once",
        ),
        pytest.param(
            document(ONE),
            facts((ONE, Stage.SERVING), (TWO, Stage.FETCHING)),
            (Retire("vision", "2.0"),),
            id="a dropped candidate is stopped while it is being fetched",
        ),
        pytest.param(
            document(ONE),
            facts((ONE, Stage.DRAINING), default=None),
            (),
            id="a draining version that is wanted again is waited for",
        ),
        pytest.param(
            document(replace(ONE, workers=3)),
            facts((ONE, Stage.SERVING)),
            (Apply(replace(ONE, workers=3)),),
            id="changed workers are taken over live",
        ),
        pytest.param(
            document(replace(ONE, env={"A": "b"})),
            facts((ONE, Stage.LOADING), default=None),
            (Apply(replace(ONE, env={"A": "b"})),),
            id="a loading version takes changes over as well",
        ),
        pytest.param(
            document(ONE),
            facts((ONE, Stage.BROKEN)),
            (Retire("vision", "1.0"),),
            id="what is left of a broken version goes",
        ),
        pytest.param(
            document(ONE),
            facts((ONE, Stage.FAILED), default=None),
            (),
            id="a failed version waits for its next attempt",
        ),
        pytest.param(
            document(replace(ONE, source=Source("file:///fixed.mar"))),
            facts((ONE, Stage.FAILED), default=None),
            (Fetch(replace(ONE, source=Source("file:///fixed.mar"))),),
            id="a failed version that is wanted differently is tried at once",
        ),
        pytest.param(
            document(ONE, TWO),
            facts((ONE, Stage.LOADING), default=None, cautious=True),
            (),
            id="after a boot a candidate waits until the defaults serve",
        ),
        pytest.param(
            document(ONE, TWO),
            facts((ONE, Stage.SERVING), cautious=True),
            (Fetch(TWO),),
            id="then it is loaded",
        ),
        pytest.param(
            document(ONE, TWO, version("1", model="speech")),
            facts((ONE, Stage.SERVING), cautious=True),
            (Fetch(version("1", model="speech")),),
            id="a candidate waits for the defaults of all models",
        ),
    ],
)
def test_plan_steps(wanted, seen, steps):
    assert plan_steps(wanted, seen) == steps


FOUR, THREE = replace(ONE, workers=4), replace(ONE, workers=3)
BY_WORKER = {"swap": Swap.WORKER_BY_WORKER}
IN_TURNS = {"swap": Swap.RECREATE}


@pytest.mark.parametrize(
    ("wanted", "seen", "steps"),
    [
        pytest.param(
            document(THREE, TWO, **BY_WORKER),
            facts((FOUR, Stage.SERVING)),
            (Apply(THREE), Fetch(TWO)),
            id="the document says how many workers each version gets",
        ),
        pytest.param(
            document(replace(TWO, workers=4), **BY_WORKER),
            facts((FOUR, Stage.SERVING), (TWO, Stage.FETCHED)),
            (Apply(ONE), Load(replace(TWO, workers=3))),
            id="a version that nobody wants any more keeps the last worker until the default moved",
        ),
        pytest.param(
            document(replace(TWO, workers=4), **BY_WORKER),
            facts((ONE, Stage.SERVING), (replace(TWO, workers=3), Stage.SERVING)),
            (SetDefault("vision", "2.0"), Apply(replace(TWO, workers=4))),
            id="the default moves to all workers but one",
        ),
        pytest.param(
            document(replace(TWO, workers=4), **BY_WORKER),
            facts((ONE, Stage.SERVING), (replace(TWO, workers=3), Stage.SERVING), default="2.0"),
            (Retire("vision", "1.0"), Apply(replace(TWO, workers=4))),
            id="then the last old worker makes room for the last new one",
        ),
        pytest.param(
            document(replace(ONE, workers=0), TWO, default="2.0"),
            facts((FOUR, Stage.SERVING), (TWO, Stage.LOADING)),
            (),
            id="the version that answers keeps its workers until the wanted default has arrived",
        ),
        pytest.param(
            document(TWO, **IN_TURNS),
            facts((ONE, Stage.SERVING)),
            (Fetch(TWO),),
            id="in turns, the new version is fetched while the old one serves",
        ),
        pytest.param(
            document(TWO, **IN_TURNS),
            facts((ONE, Stage.SERVING), (TWO, Stage.FAILED)),
            (),
            id="what cannot be fetched takes nobody out of the Service",
        ),
        pytest.param(
            document(TWO, **IN_TURNS),
            facts((ONE, Stage.SERVING), (TWO, Stage.FETCHED)),
            (SetAway("vision", away=True),),
            id="then this runtime becomes unready, and nothing else",
        ),
        pytest.param(
            document(TWO, **IN_TURNS),
            facts((ONE, Stage.SERVING), (TWO, Stage.FETCHED), leaving={"vision": False}),
            (),
            id="the old version answers on while Services notice",
        ),
        pytest.param(
            document(TWO, **IN_TURNS),
            facts((ONE, Stage.SERVING), (TWO, Stage.FETCHED), leaving={"vision": True}),
            (SetDefault("vision", None),),
            id="then it answers no longer",
        ),
        pytest.param(
            document(TWO, **IN_TURNS),
            facts(
                (ONE, Stage.SERVING),
                (TWO, Stage.FETCHED),
                default=None,
                leaving={"vision": True},
            ),
            (Retire("vision", "1.0"),),
            id="and goes",
        ),
        pytest.param(
            document(TWO, **IN_TURNS),
            facts(
                (ONE, Stage.DRAINING),
                (TWO, Stage.FETCHED),
                default=None,
                leaving={"vision": True},
            ),
            (),
            id="the new version waits until nothing of the old one is left",
        ),
        pytest.param(
            document(TWO, **IN_TURNS),
            facts((TWO, Stage.FETCHED), default=None, leaving={"vision": True}),
            (Load(TWO),),
            id="then it is loaded",
        ),
        pytest.param(
            document(TWO, **IN_TURNS),
            facts((TWO, Stage.SERVING), default=None, leaving={"vision": True}),
            (SetDefault("vision", "2.0"),),
            id="and once it is warm it answers",
        ),
        pytest.param(
            document(TWO, **IN_TURNS),
            facts((TWO, Stage.SERVING), default="2.0", leaving={"vision": True}),
            (SetAway("vision", away=False),),
            id="and this runtime is ready again",
        ),
        pytest.param(
            document(ONE, **IN_TURNS),
            facts((ONE, Stage.SERVING), (TWO, Stage.FETCHED), leaving={"vision": False}),
            (SetAway("vision", away=False), Retire("vision", "2.0")),
            id="who changes his mind in time loses nothing",
        ),
        pytest.param(
            document(ONE, **IN_TURNS),
            facts((TWO, Stage.FAILED), default=None, leaving={"vision": True}),
            (Retire("vision", "2.0"), Fetch(ONE)),
            id="a new version that failed makes way for the old one, which comes back unseen",
        ),
        pytest.param(
            document(TWO, **BY_WORKER),
            facts((ONE, Stage.SERVING), (TWO, Stage.FETCHED)),
            (SetAway("vision", away=True),),
            id="one worker cannot be exchanged worker by worker: the versions take turns",
        ),
    ],
)
def test_plan_steps_of_a_swap_without_room(wanted, seen, steps):
    assert without_order(plan_steps(wanted, seen)) == without_order(steps)


def without_order(steps):
    return sorted(map(repr, steps))


def test_a_failed_version_is_tried_again_when_its_time_has_come():
    seen = Facts({("vision", "1.0"): VersionFacts(Stage.FAILED, ONE, retry_due=True)})
    assert plan_steps(document(ONE), seen) == (Fetch(ONE),)


@pytest.mark.parametrize(
    ("wanted", "present", "digest", "same"),
    [
        pytest.param(Source("a"), Source("a"), "d", True, id="the same place"),
        pytest.param(Source("b"), Source("a"), "d", False, id="another place"),
        pytest.param(Source("a", "d"), Source("a"), "d", True, id="a pin on what is here"),
        pytest.param(Source("a", "e"), Source("a"), "d", False, id="a pin on something else"),
        pytest.param(Source("b", "d"), Source("a", "d"), None, True, id="moved, same content"),
        pytest.param(Source("a"), Source("a", "d"), "d", True, id="the pin was taken off"),
        pytest.param(Source("a", "d"), Source("a"), None, False, id="a pin on what nobody knows"),
    ],
)
def test_content_is_known_by_its_digest_or_else_by_its_place(wanted, present, digest, same):
    assert same_content(wanted, present, digest) is same


# The law, on a world small enough to meet itself often.

VERSIONS = st.builds(
    version,
    st.sampled_from(["1", "2", "3"]),
    st.sampled_from(["a", "b"]),
    workers=st.integers(0, 2),
    source=st.sampled_from([Source("x"), Source("y"), Source("x", "d")]),
)


@st.composite
def documents(draw) -> Document:
    models = []
    for name in draw(st.sets(st.sampled_from(["a", "b"]))):
        specs = draw(st.lists(VERSIONS, min_size=1, max_size=3, unique_by=lambda it: it.version))
        default = draw(st.sampled_from([None, *(spec.version for spec in specs)]))
        versions = tuple(replace(spec, model=name) for spec in specs)
        models.append(ModelSpec(name, default, versions, swap=draw(st.sampled_from(Swap))))
    return Document(models=tuple(models))


@st.composite
def worlds(draw) -> Facts:
    known = draw(st.lists(VERSIONS, max_size=6, unique_by=lambda it: (it.model, it.version)))
    stages = [draw(st.sampled_from(Stage)) for _ in known]
    defaults = draw(st.dictionaries(st.sampled_from(["a", "b"]), st.sampled_from("123")))
    return Facts(
        {
            (spec.model, spec.version): VersionFacts(
                stage, spec, draw(st.sampled_from([None, "d"])), draw(st.booleans())
            )
            for spec, stage in zip(known, stages, strict=True)
        },
        defaults,
        draw(st.booleans()),
        draw(st.dictionaries(st.sampled_from(["a", "b"]), st.booleans())),
    )


def carried_out(seen: Facts, step) -> Facts:
    """The facts after one step, as the converger carries it out."""
    versions, defaults, leaving = dict(seen.versions), dict(seen.defaults), dict(seen.leaving)
    match step:
        case SetAway(model, away):
            leaving.pop(model, None)
            leaving |= {model: False} if away else {}
        case SetDefault(model, None):
            defaults.pop(model, None)
        case SetDefault(model, number):
            assert versions[model, number].stage in ARRIVED
            defaults[model] = number
        case Retire(model, number):
            versions[model, number] = replace(versions[model, number], stage=Stage.DRAINING)
        case Fetch(spec):
            versions[spec.model, spec.version] = VersionFacts(Stage.FETCHING, spec)
        case Load(spec) | Apply(spec) | Warm(spec):
            fact = versions[spec.model, spec.version]
            stage = {Load: Stage.LOADING, Warm: Stage.WARMING}.get(type(step), fact.stage)
            if type(step) is Apply and fact.stage in ARRIVED:
                stage = Stage.SERVING if spec.workers else Stage.RESTING
            versions[spec.model, spec.version] = replace(fact, spec=spec, stage=stage)
    return Facts(versions, defaults, seen.cautious, leaving)


ONWARD = {
    Stage.FETCHING: Stage.FETCHED,
    Stage.LOADING: Stage.LOADED,
    Stage.WARMING: Stage.SERVING,
}


def time_passed(seen: Facts, misfortune) -> Facts:
    """The facts after everything under way has come to its end, well or badly."""
    versions = {}
    for key, fact in seen.versions.items():
        if fact.stage is Stage.DRAINING:
            continue
        if fact.stage is Stage.FAILED:
            versions[key] = replace(fact, retry_due=True)
        elif fact.stage in ONWARD and misfortune():
            versions[key] = replace(fact, stage=Stage.FAILED)
        else:
            versions[key] = replace(fact, stage=ONWARD.get(fact.stage, fact.stage))
    return Facts(versions, seen.defaults, seen.cautious, dict.fromkeys(seen.leaving, True))


@settings(max_examples=300)
@given(documents(), worlds(), st.lists(st.booleans(), max_size=5))
def test_from_any_state_the_answers_reach_the_wish_and_then_there_are_none(wanted, seen, troubles):
    troubles = iter(troubles)
    for _ in range(40):
        before = seen
        while steps := plan_steps(wanted, seen):
            for step in steps:
                seen = carried_out(seen, step)
        seen = time_passed(seen, lambda: next(troubles, False))
        if seen == before:
            break
    assert plan_steps(wanted, seen) == ()
    assert {key: fact.spec for key, fact in seen.versions.items()} == {
        (spec.model, spec.version): spec for model in wanted.models for spec in model.versions
    }
    assert {fact.stage for fact in seen.versions.values()} <= ARRIVED
    assert seen.defaults == {it.name: it.default for it in wanted.models if it.default is not None}
    assert seen.leaving == {}


@settings(max_examples=300)
@given(documents(), worlds())
def test_a_version_that_takes_its_turn_is_loaded_only_when_nothing_of_the_others_is_left(
    wanted, seen
):
    models = {model.name: model for model in wanted.models}
    for step in plan_steps(wanted, seen):
        if not isinstance(step, Load) or models[step.spec.model].swap is not Swap.RECREATE:
            continue
        kept = {spec.version for spec in models[step.spec.model].versions}
        assert not any(
            name == step.spec.model and version not in kept and fact.stage in ALIVE
            for (name, version), fact in seen.versions.items()
        )


@settings(max_examples=300)
@given(documents(), worlds())
def test_a_default_that_serves_is_never_retired_before_the_wanted_one_arrived(wanted, seen):
    models = {model.name: model for model in wanted.models}
    for step in plan_steps(wanted, seen):
        if not isinstance(step, Retire):
            continue
        key, model = (step.model, step.version), models.get(step.model)
        removed = model is not None and key not in {
            (spec.model, spec.version) for spec in model.versions
        }
        if removed and model.default is not None and seen.defaults.get(step.model) == step.version:
            assert seen.versions[key].stage is not Stage.SERVING


@settings(max_examples=300)
@given(documents(), worlds())
def test_nobody_is_made_the_default_who_does_not_serve(wanted, seen):
    for step in plan_steps(wanted, seen):
        if isinstance(step, SetDefault) and step.version is not None:
            assert seen.versions[step.model, step.version].stage in ARRIVED
