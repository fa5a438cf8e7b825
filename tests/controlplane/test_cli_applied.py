"""What an object would be after an apply: what its file never spoke of stays."""

import json

import pytest

from flambeau_operator.cli.applied import LAST_APPLIED, after_apply
from tests.builders import deployment_body

MODELS = deployment_body()["spec"]["models"]


def live(said=None, **spec):
    annotations = {LAST_APPLIED: json.dumps({"spec": {"models": MODELS, **said}})} if said else {}
    return deployment_body(metadata={"annotations": annotations}, **spec)


@pytest.mark.parametrize(
    ("before", "wish", "after"),
    [
        pytest.param(
            live({"suspend": False}, replicas=5), {}, {"replicas": 5}, id="kubectl scale stays"
        ),
        pytest.param(
            live({"replicas": 5}, replicas=5),
            {},
            {},
            id="what the file said before and says no more goes",
        ),
        pytest.param(
            live({"replicas": 5}, replicas=7), {"replicas": 5}, {"replicas": 5}, id="what it says"
        ),
        pytest.param(
            live({"rollout": {"progressDeadline": "5m"}}, rollout={"paused": True}),
            {"rollout": {"progressDeadline": "5m"}},
            {"rollout": {"progressDeadline": "5m", "paused": True}},
            id="a pause by command stays beside what the file says of rollouts",
        ),
        pytest.param(
            live(rollout={"paused": True}, replicas=5),
            {},
            {"rollout": {"paused": True}},
            id="where the file's last words are not known, only a pause is somebody else's",
        ),
    ],
)
def test_after_apply(before, wish, after):
    found = after_apply(before, deployment_body(**wish))["spec"]
    assert found == {"models": MODELS, **after}
