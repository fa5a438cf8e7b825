"""Wheels of a few lines each, for installers that need no index."""

from __future__ import annotations

import zipfile
from pathlib import Path


def write_wheel(
    folder: Path, name: str, version: str, requires: tuple[str, ...] = (), code: str = ""
) -> Path:
    """Write a wheel with one module, `NAME.py`, which says its VERSION."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"{name}-{version}-py3-none-any.whl"
    facts = f"{name}-{version}.dist-info"
    metadata = [f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}"]
    metadata += [f"Requires-Dist: {it}" for it in requires]
    tag = "Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    members = {
        f"{name}.py": code or f"VERSION = {version!r}\n",
        f"{facts}/METADATA": "\n".join(metadata) + "\n",
        f"{facts}/WHEEL": tag,
        f"{facts}/RECORD": "",
    }
    with zipfile.ZipFile(file, "w") as wheel:
        for member, content in members.items():
            wheel.writestr(member, content)
    return file


def from_wheels(folder: Path) -> dict[str, str]:
    """Return what makes an installer look into that folder and nowhere else."""
    return {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(folder)}
