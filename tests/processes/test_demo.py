"""The demos are promises of their own: run as `make` runs them, they check themselves."""

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.process, pytest.mark.slow, pytest.mark.timeout(300)]


def run(demo):
    """Run a demo to its end and return what it printed."""
    command = [sys.executable, "-B", "-m", f"examples.{demo}.demo"]
    root = Path(__file__).parents[2]
    done = subprocess.run(command, check=False, cwd=root, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_demo_runs_to_its_end_and_finds_nothing_wrong():
    assert "failed: 0" in run("classifier").splitlines()


def test_the_demo_of_releases_promotes_the_good_version_and_takes_the_bad_one_back():
    assert "✓ 3.0 never got more than 5 % of the requests" in run("releases")
