"""Which local pods start and stop: a table, and the law that it leads where it should."""

import pytest
from hypothesis import given, strategies as st

from flambeau_operator.local.replicas import Changes, Member, next_changes


def new(name, *, ready=True):
    return Member(name, current=True, ready=ready)


def old(name, *, ready=True):
    return Member(name, current=False, ready=ready)


@pytest.mark.parametrize(
    ("members", "replicas", "changes"),
    [
        pytest.param([], 3, Changes(start=3), id="at first all start together"),
        pytest.param([new("a"), new("b")], 2, Changes(), id="what is as wanted is left alone"),
        pytest.param([new("a")], 3, Changes(start=2), id="what is missing starts together"),
        pytest.param(
            [new("a"), new("b"), new("c")], 1, Changes(stop=("c", "b")), id="the newest go first"
        ),
        pytest.param(
            [new("a", ready=False), new("b")], 1, Changes(stop=("a",)), id="the idle go before them"
        ),
        pytest.param([new("a"), new("b")], 0, Changes(stop=("b", "a")), id="all go for zero"),
        pytest.param(
            [old("a"), old("b")], 2, Changes(start=1), id="a new template starts with one more pod"
        ),
        pytest.param(
            [old("a"), old("b"), new("c", ready=False)],
            2,
            Changes(),
            id="no old pod goes before the new one is ready",
        ),
        pytest.param(
            [old("a"), old("b"), new("c")],
            2,
            Changes(stop=("b",)),
            id="a ready new pod replaces one old pod",
        ),
        pytest.param(
            [old("a"), new("c")], 2, Changes(start=1), id="then the next one of the new template"
        ),
        pytest.param(
            [old("a", ready=False), old("b")],
            2,
            Changes(start=1, stop=("a",)),
            id="an old pod that serves nobody goes at once",
        ),
        pytest.param(
            [old("a"), old("b"), old("c")],
            1,
            Changes(stop=("c", "b")),
            id="scaled down and of a new template: the surplus goes first",
        ),
    ],
)
def test_next_changes(members, replicas, changes):
    assert next_changes(members, replicas) == changes


@given(
    st.lists(st.tuples(st.booleans(), st.booleans()), max_size=6),
    st.integers(min_value=0, max_value=5),
)
def test_from_any_state_it_leads_to_the_wish_and_never_below_what_can_serve(states, replicas):
    members = [Member(f"p{n}", *state) for n, state in enumerate(states)]
    floor = min(replicas, sum(member.ready for member in members))
    for step in range(40):
        changes = next_changes(members, replicas)
        stays = [member for member in members if member.name not in changes.stop]
        assert sum(member.ready for member in stays) >= floor
        if changes == Changes():
            waiting = [member for member in stays if not member.ready]
            if not waiting:
                break
        started = [new(f"n{step}-{number}", ready=False) for number in range(changes.start)]
        # Those that started before have become ready meanwhile.
        members = [new(m.name) if m.current else m for m in stays] + started
    assert [member.current for member in members] == [True] * replicas
