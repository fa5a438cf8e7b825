"""The user's guide as printed works with Flambeau, and so do the same steps in our own words."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
GUIDE = ROOT.parent / "shared" / "reference" / "users-guide-torchserve.txt"
OWN_NAMESPACES = (
    "--user",
    "--map-root-user",
    "--net",
    "--mount",
    "--pid",
    "--fork",
    "--kill-child",
    "--mount-proc",
)


@pytest.mark.process
@pytest.mark.timeout(300)
@pytest.mark.skipif(
    not GUIDE.exists() and not os.environ.get("CI"),
    reason="the guide's text is not in the repository",
)
def test_every_step_of_the_guide_works_as_printed(tmp_path):
    assert GUIDE.exists(), "CI must have the guide's text beside the checkout"
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    walk = subprocess.run(
        [
            "unshare",
            *OWN_NAMESPACES,
            sys.executable,
            "-m",
            "tests.compat.guide_walk",
            GUIDE,
            tmp_path,
        ],
        cwd=ROOT,
        env={**os.environ, "PATH": path, "TMPDIR": str(tmp_path), "PYTHONPATH": str(ROOT)},
        check=False,
        capture_output=True,
        text=True,
    )
    assert walk.returncode == 0, f"{walk.stdout}{walk.stderr}"
    assert "the guide works as printed" in walk.stdout
