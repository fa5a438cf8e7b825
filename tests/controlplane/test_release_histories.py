"""The machine of a release cannot be broken: any history, any operator, any pod."""

from __future__ import annotations

import pytest

from flambeau_operator.resources.deployment_status import ModelPhase
from flambeau_operator.resources.pod_state import Swap
from tests.controlplane.release_history import Releases, histories, play

STEPS = 10_000


@pytest.mark.timeout(300)
def test_no_history_breaks_a_release_and_every_one_comes_to_an_end(capsys):
    play(histories(360, 40, derandomize=True))
    with capsys.disabled():
        print(f"\n{Releases.told()}")  # noqa: T201
    assert Releases.steps_taken >= STEPS
    assert {*ModelPhase} <= set(Releases.seen), "every phase was come through"
    assert {*Swap} <= set(Releases.seen), "in every mode"
    assert {"Serving", "RolledBack"} <= set(Releases.endings)
