"""`flambeau validate`: what the files are worth, for people or for programs."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from flambeau_operator.cli.problems import check_files


def run(files: Sequence[Path], *, as_json: bool) -> int:
    """Print the verdict and return the exit code: 0 all right, 1 problems."""
    checked = check_files(files)
    found = checked.problems
    if as_json:
        verdict = {"valid": not found, "problems": [asdict(problem) for problem in found]}
        sys.stdout.write(json.dumps(verdict, indent=2) + "\n")
        return 1 if found else 0
    for problem in found:
        sys.stderr.write(f"{problem}\n")
    if not found:
        names = ", ".join(deployment.metadata.name for _, deployment in checked.good)
        sys.stdout.write(f"valid: {names}\n")
    return 1 if found else 0
