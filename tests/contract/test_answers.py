"""`flambeau plan --load` and a shadow in a pod call the same answers the same."""

import json

from hypothesis import example, given, settings, strategies

from flambeau_operator.plan.differences import difference
from flambeau_operator.resources.comparison import Comparison, Tolerance
from flambeau_runtime.serving import compare
from flambeau_runtime.serving.desired import Shadow, Tolerance as RuntimesTolerance
from flambeau_runtime.serving.job import Prediction

NAMES = strategies.sampled_from(["a", "b", "c"])
LEAVES = strategies.sampled_from([None, True, False, 0, 1, 1.05, 1.5, 2, "x", "y"])
ANSWERS = strategies.recursive(
    LEAVES,
    lambda inner: (
        strategies.lists(inner, max_size=2) | strategies.dictionaries(NAMES, inner, max_size=2)
    ),
    max_leaves=6,
)
STEPS = strategies.sampled_from([".a", ".b", "[0]", "[1]", "[*]"])
PATHS = strategies.lists(STEPS, max_size=3).map(lambda steps: "$" + "".join(steps))
TOLERANCES = strategies.tuples(PATHS, strategies.sampled_from([0.0, 0.1, 1.0]), LEAVES.map(bool))


def runtimes_words(old, new, tolerances, ignore):
    rules = Shadow(
        "1.1",
        tolerances=tuple(RuntimesTolerance(path, by, 0.5 * half) for path, by, half in tolerances),
        ignore=tuple(ignore),
    )
    answers = (Prediction(body=each) for each in (old, new))
    found = compare.Comparison(*answers, compare.read_rules(rules))
    while not found.step(100):
        pass
    assert not found.undecided
    return found.difference


def operators_words(old, new, tolerances, ignore):
    rules = Comparison(
        tolerances=tuple(
            Tolerance(path=path, absolute=by, relative=0.5 * half) for path, by, half in tolerances
        ),
        ignore=tuple(ignore),
    )
    return difference(old, new, rules)


@settings(max_examples=400)
@given(
    ANSWERS, ANSWERS, strategies.lists(TOLERANCES, max_size=3), strategies.lists(PATHS, max_size=2)
)
@example({"a": [1, {"b": 1}]}, {"a": [1, {"b": 2}]}, [("$.a", 1.0, False)], [])
@example({"a": [1, {"b": 1}]}, {"a": [1, {"b": 2}]}, [("$.a[*]", 0.1, False), ("$", 9.0, True)], [])
@example({"a": 1, "b": 2}, {"b": 2}, [], ["$.a"])
def test_both_find_a_difference_or_neither(one, other, tolerances, ignore):
    old, new = json.dumps(one).encode(), json.dumps(other, indent=1).encode()
    ours, theirs = (
        words(old, new, tolerances, ignore) for words in (operators_words, runtimes_words)
    )
    assert (ours is None) == (theirs is None), (ours, theirs)


def test_both_compare_what_is_no_json_byte_for_byte():
    for old, new in ((b"\xff\x00", b"\xff\x01"), (b"\xff", b"\xff\x01")):
        assert operators_words(old, new, [], []) == runtimes_words(old, new, [], [])
