"""The machine of a release cannot be broken: any history, any operator, any pod."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from flambeau_operator.resources.deployment_status import ModelPhase
from flambeau_operator.resources.pod_state import Swap

ROOT = Path(__file__).parents[2]
STEPS = 10_000
TOLD = re.compile(r"(\d+) steps; seen: (.*); ends: (.*)")


@pytest.mark.timeout(300)
def test_no_history_breaks_a_release_and_every_one_comes_to_an_end(capsys):
    """In a process of their own: hypothesis makes up others where other modules are loaded."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.controlplane.release_history", "7", "360"],
        cwd=ROOT,
        env={**os.environ, "PYTHONHASHSEED": "0"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-8000:]
    with capsys.disabled():
        print(f"\n{done.stdout}")  # noqa: T201
    told = TOLD.search(done.stdout)
    assert told is not None
    steps, seen, ends = told.groups()
    assert int(steps) >= STEPS
    assert {*ModelPhase} <= _names(seen), "every phase was come through"
    assert {*Swap} <= _names(seen), "in every mode"
    assert {"Serving", "RolledBack"} <= _names(ends)


def _names(counted: str) -> set[str]:
    """Return what was counted: `Canary 702, Draining 48`."""
    return {each.split()[0] for each in counted.split(", ")}
