"""What can go wrong with a cluster, as one tree.

ClusterFault
├── MissingPrograms    something must be installed first
├── NotPermitted       the machine or the user does not allow it
├── BuildFailed        the Go build said no
├── ProgramDied        a daemon of the cluster ended on its own
├── NotReady           something did not come in its time
└── Occupied           another cluster lies in the same folder
"""

from collections.abc import Sequence
from pathlib import Path


class ClusterFault(Exception):
    """The cluster cannot be had; the message says what to do."""


class MissingPrograms(ClusterFault):
    """Programs that this machine lacks."""

    def __init__(self, names: Sequence[str], remedy: str) -> None:
        super().__init__(f"not found: {', '.join(names)}; {remedy}")
        self.names = tuple(names)


class NotPermitted(ClusterFault):
    """An action that needs more rights than there are."""


class BuildFailed(ClusterFault):
    """`go build` ended with an error."""

    def __init__(self, what: str, output: str) -> None:
        super().__init__(f"the build of {what} failed:\n{output}")


class ProgramDied(ClusterFault):
    """A program of the cluster ended although nobody stopped it."""

    def __init__(self, name: str, status: int, log: Path) -> None:
        super().__init__(f"{name} ended with status {status}; its last lines:\n{tail(log)}")
        self.name = name


class NotReady(ClusterFault):
    """A condition did not come true in its time."""

    def __init__(self, what: str, seconds: float, detail: str = "") -> None:
        super().__init__(f"{what}: not within {seconds:.0f} s" + (f"\n{detail}" if detail else ""))


class Occupied(ClusterFault):
    """The folder belongs to another cluster that runs."""


def tail(log: Path, lines: int = 20) -> str:
    """Return the last lines of a log, indented."""
    try:
        found = log.read_text(errors="replace").splitlines()[-lines:]
    except OSError as error:
        found = [f"(no log: {error})"]
    return "\n".join(f"    {line}" for line in found or ["(empty)"])
