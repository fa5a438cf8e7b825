"""When a child is as it is wanted, and when it has to be applied."""

import pytest

from flambeau_operator.kubernetes.drift import APPLIED, projected, stamped

WANTED = {
    "metadata": {"name": "vision", "labels": {"ours": "yes"}},
    "spec": {"ports": [{"port": 80}], "type": "ClusterIP"},
}


@pytest.mark.parametrize(
    ("live", "same"),
    [
        pytest.param(WANTED, True, id="exactly"),
        pytest.param(
            {
                "metadata": {"name": "vision", "uid": "u", "labels": {"ours": "yes", "a": "b"}},
                "spec": {"ports": [{"port": 80, "nodePort": 3}], "type": "ClusterIP", "x": 1},
                "status": {},
            },
            True,
            id="with what others and defaults have added",
        ),
        pytest.param({**WANTED, "spec": {"ports": [{"port": 81}]}}, False, id="another value"),
        pytest.param({**WANTED, "spec": {"type": "ClusterIP"}}, False, id="a field is missing"),
        pytest.param(
            {**WANTED, "spec": {"ports": [{"port": 80}, {"port": 1}], "type": "ClusterIP"}},
            False,
            id="a list of another length",
        ),
    ],
)
def test_an_object_says_what_is_wanted(live, same):
    assert (projected(live, WANTED) == WANTED) is same


def test_a_stamp_tells_manifests_apart_and_says_nothing_of_their_order():
    stamps = [
        stamped(each)["metadata"]["annotations"][APPLIED]
        for each in (WANTED, dict(reversed(WANTED.items())), {**WANTED, "spec": {}})
    ]
    assert stamps[0] == stamps[1] != stamps[2]


def test_a_stamp_stands_beside_other_annotations():
    annotated = {"metadata": {"annotations": {"a": "b"}}}
    assert stamped(annotated)["metadata"]["annotations"]["a"] == "b"
