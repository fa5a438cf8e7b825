"""Archives for row tests, written without an archiver: quick, and the same for every target."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Mapping
from pathlib import Path
from textwrap import dedent
from typing import Any


def write_mar(
    folder: Path,
    name: str,
    handler: str,
    /,
    *,
    version: str = "1.0",
    config: str = "",
    files: Mapping[str, str | bytes] | None = None,
    **model: Any,
) -> Path:
    """Write `NAME-VERSION.mar` into the folder and return its path.

    Args:
        folder: made when it is not there.
        name: the model's name.
        handler: the text of handler.py; common indentation is taken away.
        version: the model's version.
        config: the text of model-config.yaml, if there shall be one.
        files: further files of the archive, text or bytes by name.
        model: entries of the manifest's `model` that replace or join the usual ones, such as
            `serializedFile="weights.pt"` or `handler="image_classifier"`; None leaves one out.
    """
    folder.mkdir(parents=True, exist_ok=True)
    entries: dict[str, Any] = {
        "modelName": name,
        "modelVersion": version,
        "handler": "handler.py",
        **({"configFile": "model-config.yaml"} if config else {}),
        **model,
    }
    entries = {key: value for key, value in entries.items() if value is not None}
    manifest = {
        "createdOn": "01/01/2024 00:00:00",
        "runtime": "python",
        "model": entries,
        "archiverVersion": "0.12.0",
    }
    path = folder / f"{name}-{version}.mar"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("MAR-INF/MANIFEST.json", json.dumps(manifest))
        archive.writestr("handler.py", dedent(handler))
        if config:
            archive.writestr("model-config.yaml", dedent(config))
        for file, content in (files or {}).items():
            archive.writestr(file, content)
    return path
