"""The folder a runtime works in: its own for as long as it lives, nobody else's meanwhile."""

from __future__ import annotations

import fcntl
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from flambeau_runtime.errors import InvalidSettings
from flambeau_runtime.settings import Settings


@contextmanager
def held(settings: Settings) -> Iterator[Settings]:
    """Hold the state directory; a runtime without one gets one, taken away at the end.

    Two runtimes in one folder would overwrite each other's accepted document.

    Raises:
        InvalidSettings: another runtime works there, or it cannot be made.
    """
    if settings.state_dir != Path():
        with _locked(settings.state_dir):
            yield settings
        return
    try:
        made = tempfile.TemporaryDirectory(prefix="flambeau-", dir=settings.temp_dir)
    except OSError as error:
        raise InvalidSettings(
            f"{settings.temp_dir or tempfile.gettempdir()}: {error.strerror}; set TEMP to a"
            " directory of your own"
        ) from None
    with made as folder:
        yield replace(settings, state_dir=Path(folder))


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        raise InvalidSettings(f"--state-dir {folder}: {error.strerror}") from None
    try:
        _lock(descriptor, folder)
        yield
    finally:
        os.close(descriptor)


def _lock(descriptor: int, folder: Path) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise InvalidSettings(
            f"--state-dir {folder}: another runtime works there; name another folder"
        ) from None
