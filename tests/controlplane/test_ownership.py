"""What is never touched: objects that belong to somebody else."""

from __future__ import annotations

import pytest

from flambeau_operator.plan.ownership import Verdict, applicable, may_take
from tests.builders import UID

LABELS = {"app.kubernetes.io/managed-by": "flambeau", "serving.flambeau.dev/name": "vision"}


def reference(uid: str = UID, *, controller: bool = True, **changes):
    return {
        "apiVersion": "serving.flambeau.dev/v1alpha1",
        "kind": "ModelDeployment",
        "name": "vision",
        "uid": uid,
        "controller": controller,
        **changes,
    }


@pytest.mark.parametrize(
    ("metadata", "adopt", "verdict"),
    [
        pytest.param(None, False, Verdict.FREE, id="nothing of that name"),
        pytest.param(
            {"labels": LABELS, "ownerReferences": [reference()]},
            False,
            Verdict.OURS,
            id="controlled by this very object",
        ),
        pytest.param(
            {"ownerReferences": [reference()]},
            False,
            Verdict.OURS,
            id="the labels were taken off: still ours",
        ),
        pytest.param({}, False, Verdict.FOREIGN, id="nobody's"),
        pytest.param({"labels": LABELS}, False, Verdict.FOREIGN, id="left behind, not given to us"),
        pytest.param({"labels": LABELS}, True, Verdict.FREE, id="left behind and given to us"),
        pytest.param(
            {"labels": {**LABELS, "serving.flambeau.dev/name": "other"}},
            True,
            Verdict.FOREIGN,
            id="left behind by another one",
        ),
        pytest.param(
            {"name": "vision-models", "labels": LABELS},
            True,
            Verdict.FREE,
            id="so is its committed set",
        ),
        pytest.param({}, True, Verdict.FOREIGN, id="given to us, but it never was one of these"),
        pytest.param({"labels": None}, True, Verdict.FOREIGN, id="without any label"),
        pytest.param(
            {"labels": LABELS, "ownerReferences": [reference("older")]},
            False,
            Verdict.OLDER_UID,
            id="of a namesake that is gone: it is collected",
        ),
        pytest.param(
            {"labels": LABELS, "ownerReferences": [reference("older")]},
            True,
            Verdict.OLDER_UID,
            id="adopting does not stop the collector",
        ),
        pytest.param(
            {"labels": LABELS, "ownerReferences": [reference("x", kind="Deployment")]},
            True,
            Verdict.FOREIGN,
            id="controlled by something else",
        ),
        pytest.param(
            {"labels": LABELS, "ownerReferences": [reference(controller=False)]},
            False,
            Verdict.FOREIGN,
            id="an owner that does not control it",
        ),
    ],
)
def test_whose_an_object_is(metadata, adopt, verdict):
    metadata = metadata if metadata is None else {"name": "vision", **metadata}
    assert may_take(metadata, UID, adopt=adopt) is verdict


ALL = ("ServiceAccount", "Service", "NetworkPolicy", "Deployment", "HorizontalPodAutoscaler")


@pytest.mark.parametrize(
    ("withheld", "left"),
    [
        pytest.param(set(), ALL, id="everything is ours"),
        pytest.param(
            {"Service"},
            ("ServiceAccount", "NetworkPolicy", "Deployment", "HorizontalPodAutoscaler"),
            id="a foreign Service: pods run all the same",
        ),
        pytest.param(
            {"ConfigMap"},
            ("ServiceAccount", "Service", "NetworkPolicy"),
            id="a foreign ConfigMap: nothing may boot from it",
        ),
        pytest.param(
            {"ServiceAccount"},
            ("Service", "NetworkPolicy"),
            id="a foreign ServiceAccount: nothing may run as it",
        ),
        pytest.param(
            {"Deployment"},
            ("ServiceAccount", "Service", "NetworkPolicy"),
            id="a foreign Deployment is not scaled either",
        ),
    ],
)
def test_what_relies_on_a_foreign_object_is_not_made(withheld, left):
    manifests = [{"kind": kind} for kind in ALL]
    assert tuple(each["kind"] for each in applicable(manifests, withheld)) == left
