"""The demo is a promise of its own: run as `make demo` runs it, it checks itself."""

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.process, pytest.mark.slow, pytest.mark.timeout(300)]


def test_the_demo_runs_to_its_end_and_finds_nothing_wrong():
    command = [sys.executable, "-B", "-m", "examples.classifier.demo"]
    root = Path(__file__).parents[2]
    run = subprocess.run(command, check=False, cwd=root, capture_output=True, text=True)
    assert run.returncode == 0, run.stdout + run.stderr
    assert "failed: 0" in run.stdout.splitlines()
