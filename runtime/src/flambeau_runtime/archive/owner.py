"""Which process something half-made belongs to, told to others that may be on another machine."""

from __future__ import annotations

import hashlib
import os
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import Self


@dataclass(frozen=True, slots=True)
class Owner:
    """One process of one machine, and one of its stores."""

    machine: str  # this boot of it, and the namespace in which `pid` means something
    pid: int
    started: str  # in the kernel's ticks: a number that comes again is another process
    token: str

    @classmethod
    def me(cls) -> Self:
        """Return an owner for this process; each call makes another one."""
        pid = os.getpid()
        return cls(_machine(), pid, _started(pid) or "0", secrets.token_hex(4))

    @classmethod
    def read(cls, text: str) -> Self | None:
        """Read what `str` wrote; None for anything else."""
        parts = text.split("-")
        if len(parts) != 4 or not parts[1].isdigit():  # noqa: PLR2004  its four fields
            return None
        machine, pid, started, token = parts
        return cls(machine, int(pid), started, token)

    def __str__(self) -> str:
        return f"{self.machine}-{self.pid}-{self.started}-{self.token}"

    def is_surely_dead(self) -> bool:
        """Tell whether this machine knows that the process has ended; of others it knows nothing.

        A store of this very process that is not closed counts as alive.
        """
        return self.machine == _machine() and _started(self.pid) != self.started


def _machine() -> str:
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text()
        namespace = Path("/proc/self/ns/pid").readlink()
    except OSError:  # no Linux
        boot, namespace = os.uname().nodename, Path()
    return hashlib.sha256(f"{boot} {namespace}".encode()).hexdigest()[:8]


def _started(pid: int) -> str | None:
    """Return when a process began; None if there is none, or it has ended and only waits."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None if Path("/proc/self/stat").exists() or not _answers(pid) else "0"
    return None if fields[0] in "ZX" else fields[19]


def _answers(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
