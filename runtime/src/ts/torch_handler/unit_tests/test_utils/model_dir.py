"""`model_dir`: fills the folder of a model for unit tests of handlers."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import urlopen

CACHE = Path(tempfile.gettempdir()) / "flambeau-unit-test-models"


def download_model(model_url: str, model_dir: Path) -> None:
    """Fetch a file once, and copy it into the folder as `model.pt`."""
    CACHE.mkdir(exist_ok=True)
    kept = CACHE / Path(urlsplit(model_url).path).name
    if not kept.exists():
        partial = kept.with_suffix(".partial")
        with urlopen(model_url) as source, partial.open("wb") as target:  # noqa: S310  the test's own URL
            shutil.copyfileobj(source, target)
        partial.rename(kept)
    shutil.copyfile(kept, Path(model_dir) / "model.pt")


def copy_files(src_dir: Path, dst_dir: Path, files: Mapping[str, str]) -> None:
    """Copy files from one folder to another, each under its new name."""
    for name, new_name in files.items():
        shutil.copyfile(Path(src_dir) / name, Path(dst_dir) / new_name)
