"""How much memory there is for this runtime, and how much each of its processes holds.

What may be used is the least of what the control groups on the way to the root leave, a declared
limit leaves, and the machine has. The page cache of a group counts as free: the kernel gives it
back before it kills anybody.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from flambeau_runtime.serving.cpu_share import CGROUP_ROOT, MEMBERSHIP, groups, upwards

KIBI = 1024
MEBI = 1024 * KIBI
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
PROC = Path("/proc")
NO_LIMIT = 2**62
"""Version 1 writes "unlimited" as the largest multiple of a page that fits into 63 bits."""


@dataclass(frozen=True, slots=True)
class Room:
    """A limit and what is left below it, in bytes; None: not known."""

    limit_bytes: int | None = None
    available_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class Places:
    """Where the kernel tells; tests have folders of their own."""

    root: Path = CGROUP_ROOT
    membership: Path = MEMBERSHIP
    proc: Path = PROC


HERE = Places()


def measure_room(declared_bytes: int | None, pids: Iterable[int], places: Places = HERE) -> Room:
    """Return the room that is left for this runtime.

    Args:
        declared_bytes: a limit that is declared where no control group sets it; what the processes
            share is then counted once.
        pids: of this runtime: the front, its template and its workers.
        places: where the kernel tells.
    """
    rooms = [machine_room(places.proc), *group_rooms(places)]
    if declared_bytes is not None:
        used = sum(held_bytes(pid, places.proc) for pid in pids)
        rooms.append(Room(declared_bytes, max(declared_bytes - used, 0)))
    return least(rooms)


def least(rooms: Iterable[Room]) -> Room:
    """Return the lowest limit and the least that is left: they need not belong together."""
    known = list(rooms)
    return Room(
        min((it.limit_bytes for it in known if it.limit_bytes is not None), default=None),
        min((it.available_bytes for it in known if it.available_bytes is not None), default=None),
    )


def machine_room(proc: Path = PROC) -> Room:
    """Return what the machine has in all, and what it could give without swapping."""
    found: dict[str, int] = {}
    for line in text(proc / "meminfo").splitlines():
        name, _, value = line.partition(":")
        number = value.split()[:1]
        if number and number[0].isdecimal():
            found[name] = int(number[0]) * KIBI
    return Room(found.get("MemTotal"), found.get("MemAvailable"))


def group_rooms(places: Places = HERE) -> Iterator[Room]:
    """Yield the room that each control group above this process leaves it."""
    for controllers, group in groups(places.membership):
        if controllers == "":
            for folder in upwards(places.root, group):
                yield _room_v2(folder)
        elif "memory" in controllers.split(","):
            for folder in upwards(places.root / "memory", group):
                yield _room_v1(folder)


def _room_v2(folder: Path) -> Room:
    return _room(
        _number(folder / "memory.max"),
        _number(folder / "memory.current"),
        _fields(folder / "memory.stat").get("inactive_file", 0),
    )


def _room_v1(folder: Path) -> Room:
    limit = _number(folder / "memory.limit_in_bytes")
    return _room(
        None if limit is None or limit > NO_LIMIT else limit,
        _number(folder / "memory.usage_in_bytes"),
        _fields(folder / "memory.stat").get("total_inactive_file", 0),
    )


def _room(limit: int | None, used: int | None, cache: int) -> Room:
    if limit is None:
        return Room()
    return Room(limit, None if used is None else max(limit - max(used - cache, 0), 0))


def oom_kills(places: Places = HERE) -> int:
    """Return how many processes of this process's own group the kernel has killed for memory."""
    counts = [0]
    for controllers, group in groups(places.membership):
        if controllers == "":
            folder = next(upwards(places.root, group))
            counts.append(_fields(folder / "memory.events").get("oom_kill", 0))
        elif "memory" in controllers.split(","):
            for folder in upwards(places.root / "memory", group):
                counts.append(_fields(folder / "memory.oom_control").get("oom_kill", 0))
                break
    return max(counts)


def held_bytes(pid: int, proc: Path = PROC) -> int:
    """Return a process's share of memory (PSS), or what is resident where nobody tells it; 0: gone.

    Workers forked from one template share most of what is resident in them. Reading takes
    milliseconds for a big process: not on the event loop.
    """
    share = _fields(proc / str(pid) / "smaps_rollup").get("Pss")
    return resident_bytes(pid, proc) if share is None else share * KIBI


def resident_bytes(pid: int | None, proc: Path = PROC) -> int:
    """Return what is resident of a process (RSS); cheap; 0 where /proc is not there to tell."""
    if pid is not None:
        with suppress(OSError, ValueError, IndexError):
            return int((proc / str(pid) / "statm").read_text().split()[1]) * PAGE_BYTES
    return 0


def in_words(size: int) -> str:
    """Return a number of bytes for people."""
    return f"{size / MEBI:.0f} MiB"


def _fields(path: Path) -> Mapping[str, int]:
    """Return the numbers of a file of `name number` lines, with or without a colon."""
    found = {}
    for line in text(path).splitlines():
        name, *rest = line.replace(":", " ").split()[:2] or [""]
        if rest and rest[0].isdecimal():
            found[name] = int(rest[0])
    return found


def _number(path: Path) -> int | None:
    said = text(path).strip()
    return int(said) if said.isdecimal() else None


def text(path: Path) -> str:
    """Return a file's text; empty where it cannot be read."""
    try:
        return path.read_text()
    except OSError:
        return ""
