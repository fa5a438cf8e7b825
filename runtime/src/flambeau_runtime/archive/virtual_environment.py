"""A virtual environment on top of the runtime's own: its packages first, ours behind them."""

from __future__ import annotations

import site
import subprocess
import sys
from pathlib import Path

from flambeau_runtime.archive.installer import TAIL_CHARACTERS, InstallationFailed

LIMIT_S = 120.0
INHERITED = "zz-runtime-packages.pth"
"""Read last: what the model has installed goes before."""


def make_virtual_environment(home: Path) -> Path:
    """Make one and return its interpreter.

    Python's own inheritance knows the base interpreter's packages only, not those of the virtual
    environment that this runtime may be in; so a .pth file names all of ours.

    Raises:
        InstallationFailed: Python has no venv module here, or it failed.
    """
    command = [sys.executable, "-I", "-m", "venv", "--without-pip", "--clear", str(home)]
    try:
        made = subprocess.run(  # noqa: S603  our own interpreter and a path of ours
            command, capture_output=True, text=True, timeout=LIMIT_S, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise InstallationFailed(f"no virtual environment within {LIMIT_S:g} s") from error
    if made.returncode != 0:
        raise InstallationFailed((made.stdout + made.stderr).strip()[-TAIL_CHARACTERS:])
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    ours = [*site.getsitepackages(), *_of_the_user()]
    lines = [f"import site; site.addsitedir({folder!r})" for folder in ours]
    (home / "lib" / version / "site-packages" / INHERITED).write_text("\n".join(lines) + "\n")
    return home / "bin" / "python"


def _of_the_user() -> list[str]:
    return [site.getusersitepackages()] if site.ENABLE_USER_SITE else []
