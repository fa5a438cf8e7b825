"""One of many processes may do a thing, wherever they are; one that died keeps nobody waiting.

A lease is a file that is made exclusively, which every kind of shared volume can do (locks of the
kernel many cannot). Its holder writes to it every few seconds. Who waits takes it over when the
holder is a dead process of the same machine, or when nothing was written for long, judged by the
own clock: what the clocks of other machines say does not matter.

A holder that only slept and wakes later has lost it, and may not know yet. So nobody ever writes to
a file that another holder has open: what that one has brought is copied.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from flambeau_runtime.archive.owner import Owner

BEAT_S = 5.0
SILENT_S = 30.0


@dataclass(slots=True)
class Lease:
    """One thing that only one process does at a time."""

    path: Path
    owner: Owner
    clock: Callable[[], float] = time.monotonic
    _descriptor: int | None = None
    _beats: int = 0
    _seen: str = ""
    _seen_at: float = 0.0

    def try_to_take(self) -> bool:
        """Take it if nobody has it; False: look again in a moment."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        try:
            flags = os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC
            self._descriptor = os.open(self.path, flags, 0o644)
        except FileExistsError:
            self._judge()
            return False
        self.beat()
        return True

    def beat(self) -> bool:
        """Show that the holder lives; False if another has taken over.

        Raises:
            OSError: the volume does not answer; the lease may be lost before it does.
        """
        if self._descriptor is None:
            return False
        self._beats += 1
        os.pwrite(self._descriptor, f"{self.owner} {self._beats:012}\n".encode(), 0)
        os.fsync(self._descriptor)
        return self._is_there()

    def give_back(self) -> None:
        """Let the next one have it at once."""
        if self._descriptor is None:
            return
        try:
            if self._is_there():
                self.path.unlink(missing_ok=True)
        finally:
            os.close(self._descriptor)
            self._descriptor = None

    def _is_there(self) -> bool:
        """Tell whether the file with the name is still the one that was made."""
        if self._descriptor is None:
            return False
        try:
            named, ours = self.path.stat(), os.fstat(self._descriptor)
        except FileNotFoundError:
            return False
        return (named.st_dev, named.st_ino) == (ours.st_dev, ours.st_ino)

    def _judge(self) -> None:
        """Look at another's lease, and remove it if that one will not come back."""
        said = self._read(self.path)
        if said is None:
            return
        now = self.clock()
        if said != self._seen or not self._seen_at:
            self._seen, self._seen_at = said, now
        owner = Owner.read(said.partition(" ")[0])
        dead = owner is not None and owner.is_surely_dead()
        if dead or now - self._seen_at >= SILENT_S:
            self._remove(said)

    def _remove(self, said: str) -> None:
        """Remove the lease that says so; a newer one of another waiter is put back."""
        aside = self.path.with_name(f"{self.path.name}.{self.owner.token}")
        try:
            self.path.rename(aside)
        except FileNotFoundError:
            return
        if self._read(aside) != said:
            with suppress(OSError):  # its holder learns at the next beat that it is lost
                os.link(aside, self.path)
        aside.unlink(missing_ok=True)

    def _read(self, path: Path) -> str | None:
        try:
            return path.read_text(errors="replace").strip()
        except FileNotFoundError:
            return None
