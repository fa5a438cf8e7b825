"""A small process that outlives a killed session just long enough to clean up after it.

It reads its orders from a pipe whose other end only the session holds: when the session ends,
however it ends, the pipe ends, on every system alike. It is run as a script without site packages
(it must start in milliseconds and import nothing of ours).

Orders, one per line: `+PID` a process group to end with the session, `-PID` it is gone already,
`rm PATH` a folder to remove in the end.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import sys
import time

PATIENCE_S = 3.0


def main() -> None:
    """Follow the orders, and end what is left when they end."""
    groups: set[int] = set()
    folders: list[str] = []
    for line in sys.stdin:
        order = line.rstrip("\n")
        if order.startswith("+"):
            groups.add(int(order[1:]))
        elif order.startswith("-"):
            groups.discard(int(order[1:]))
        elif order.startswith("rm "):
            folders.append(order[3:])
    end_groups(groups)
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)


def end_groups(groups: set[int]) -> None:
    """Ask every group to end, and kill those that do not in time."""
    deadline = time.monotonic() + PATIENCE_S
    left = {group for group in groups if signalled(group, signal.SIGTERM)}
    while left and time.monotonic() < deadline:
        time.sleep(0.05)
        left = {group for group in left if signalled(group, 0)}
    for group in left:
        signalled(group, signal.SIGKILL)


def signalled(group: int, number: int) -> bool:
    """Signal a process group; False if there is none."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, number)
        return True
    return False


if __name__ == "__main__":
    main()
