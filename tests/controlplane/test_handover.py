"""Who says how many pods run, and how the word passes without changing the number by itself."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from hypothesis import given, settings, strategies as st

from flambeau_operator.plan.children import desired_children
from flambeau_operator.plan.handover import ReplicaSteps, replica_steps
from flambeau_operator.plan.site import Live
from tests.builders import a_deployment

HPA = {"autoscaling": {"hpa": {"min": 2, "max": 9}}}


def steps(live: Live, **spec: Any) -> ReplicaSteps:
    return replica_steps(desired_children(a_deployment(**spec), live.replicas), live)


def running(replicas: int, *, ours: bool, hpa: bool = False) -> Live:
    return Live(exists=True, replicas=replicas, owns_replicas=ours, hpa_exists=hpa)


@pytest.mark.parametrize(
    ("spec", "live", "expected"),
    [
        pytest.param(
            {"replicas": 3},
            Live(),
            ReplicaSteps(False, None, 3, apply_autoscaler=False),
            id="a new Deployment has the number of the spec",
        ),
        pytest.param(
            {},
            Live(),
            ReplicaSteps(False, None, 1, apply_autoscaler=False),
            id="or one",
        ),
        pytest.param(
            {"replicas": 0},
            Live(),
            ReplicaSteps(False, None, 0, apply_autoscaler=False),
            id="or none",
        ),
        pytest.param(
            HPA,
            Live(),
            ReplicaSteps(False, None, 2, apply_autoscaler=True),
            id="or the autoscaler's fewest",
        ),
        pytest.param(
            {"replicas": 3},
            running(5, ours=False),
            ReplicaSteps(False, None, 3, apply_autoscaler=False),
            id="our number holds against whoever scaled by hand",
        ),
        pytest.param(
            HPA,
            running(5, ours=True),
            ReplicaSteps(False, 5, None, apply_autoscaler=True),
            id="on: what runs is handed over before our number goes",
        ),
        pytest.param(
            HPA,
            running(5, ours=False, hpa=True),
            ReplicaSteps(False, None, None, apply_autoscaler=True),
            id="autoscaled: no number of ours",
        ),
        pytest.param(
            {"replicas": 3},
            running(5, ours=False, hpa=True),
            ReplicaSteps(True, None, None, apply_autoscaler=False),
            id="off: first the autoscaler goes",
        ),
        pytest.param(
            {"replicas": 3},
            running(5, ours=True, hpa=True),
            ReplicaSteps(True, None, 5, apply_autoscaler=False),
            id="off: and a number that we hold does not drop meanwhile",
        ),
        pytest.param(
            {"replicas": 3, "suspend": True},
            running(3, ours=True),
            ReplicaSteps(False, None, 0, apply_autoscaler=False),
            id="suspended: none",
        ),
        pytest.param(
            {**HPA, "suspend": True},
            running(5, ours=False, hpa=True),
            ReplicaSteps(False, None, 0, apply_autoscaler=False),
            id="suspended: an autoscaler rests while there are none, and stays",
        ),
        pytest.param(
            {"suspend": True},
            Live(),
            ReplicaSteps(False, None, 0, apply_autoscaler=False),
            id="suspended from the start",
        ),
        pytest.param(
            {**HPA, "suspend": False},
            running(0, ours=True, hpa=True),
            ReplicaSteps(False, None, 2, apply_autoscaler=True),
            id="resumed: an autoscaler does not begin from none",
        ),
        pytest.param(
            HPA,
            running(0, ours=False, hpa=True),
            ReplicaSteps(False, None, None, apply_autoscaler=True),
            id="scaled to none by hand: that is respected",
        ),
    ],
)
def test_the_next_steps(spec, live, expected):
    assert steps(live, **spec) == expected


# -------------------------------------------------------------------- against an API server's rules


@dataclass
class Server:
    """`spec.replicas` of one Deployment under server-side apply, and an autoscaler."""

    replicas: int = 1
    exists: bool = False
    owners: set[str] = field(default_factory=set)
    hpa: bool = False
    history: list[int] = field(default_factory=list)

    def apply(self, manager: str, replicas: int | None) -> None:
        if replicas is None:
            if self.owners == {manager}:
                self._set(1)  # nobody holds it any more: the default
            self.owners.discard(manager)
        else:
            # Forced: whoever holds another value loses the field.
            self.owners = {manager} if replicas != self.replicas else {*self.owners, manager}
            self._set(replicas)
        self.exists = True

    def scale(self, replicas: int) -> None:
        """What an autoscaler or `kubectl scale` does."""
        if replicas != self.replicas:
            self.owners = {"scaler"}
            self._set(replicas)

    def _set(self, replicas: int) -> None:
        self.replicas = replicas
        self.history.append(replicas)

    def live(self) -> Live:
        if not self.exists:
            return Live(hpa_exists=self.hpa)
        return running(self.replicas, ours="flambeau" in self.owners, hpa=self.hpa)

    def reconcile(self, spec: dict[str, Any], stop_after: int = 9) -> None:
        """One pass of the adapter, which may die after any of its writes."""
        due = steps(self.live(), **spec)
        writes = []
        if due.delete_autoscaler:
            writes.append(lambda: setattr(self, "hpa", False))
        if due.hand_over is not None:
            writes.append(lambda: self.apply("flambeau-handover", due.hand_over))
        writes.append(lambda: self.apply("flambeau", due.replicas))
        if due.apply_autoscaler:
            writes.append(lambda: setattr(self, "hpa", True))
        for write in writes[:stop_after]:
            write()


WISHES = [{"replicas": 4}, {"replicas": 2}, HPA, {**HPA, "suspend": True}, {"suspend": True}]
ACTIONS = st.one_of(
    st.tuples(st.just("wish"), st.sampled_from(WISHES)),
    st.tuples(st.just("scale"), st.integers(min_value=2, max_value=9)),
    st.tuples(st.just("pass"), st.integers(min_value=1, max_value=9)),
)


@settings(max_examples=300, deadline=None)
@given(st.lists(ACTIONS, max_size=20))
def test_whatever_happens_the_number_is_always_one_that_somebody_asked_for(actions):
    server, spec = Server(), {"replicas": 4}
    asked = {4, 2, 1, 0}
    server.reconcile(spec)
    for action, value in actions:
        if action == "wish":
            spec = value
        elif action == "scale" and server.hpa and server.replicas:
            asked.add(value)
            server.scale(value)
        elif action == "pass":
            before = server.replicas
            server.reconcile(spec, stop_after=value)
            wished = 0 if spec.get("suspend") else spec.get("replicas")
            allowed = {before, wished} if "autoscaling" not in spec or wished == 0 else {before}
            resumed = {2} if before == 0 else set()
            assert server.replicas in allowed | resumed
    assert set(server.history) <= asked
    for _ in range(4):
        server.reconcile(spec)
    assert "autoscaling" in spec or not server.hpa
    if spec.get("suspend"):
        assert server.replicas == 0
    elif "replicas" in spec:
        assert server.replicas == spec["replicas"]
    else:
        assert server.hpa
        assert server.replicas >= 2
        assert "flambeau" not in server.owners


def test_a_switch_to_an_autoscaler_and_back_keeps_the_number_until_another_is_asked_for():
    server = Server()
    for _ in range(2):
        server.reconcile({"replicas": 4})
    for _ in range(3):
        server.reconcile(HPA)
    server.scale(6)
    for _ in range(3):
        server.reconcile({"replicas": 6})
    assert list(dict.fromkeys(server.history)) == [4, 6]


def test_a_pause_of_an_autoscaled_deployment_ends_with_its_fewest_pods():
    server = Server()
    for _ in range(3):
        server.reconcile(HPA)
    server.scale(7)
    server.reconcile({**HPA, "suspend": True})
    assert server.replicas == 0
    for _ in range(3):
        server.reconcile(HPA)
    assert (server.replicas, server.owners) == (2, {"flambeau-handover"})


def test_without_the_hand_over_the_number_would_fall_to_one():
    """The law above means something only while the model has this trap."""
    server = Server()
    server.reconcile({"replicas": 4})
    server.apply("flambeau", replace(steps(server.live(), **HPA), hand_over=None).replicas)
    assert server.replicas == 1
