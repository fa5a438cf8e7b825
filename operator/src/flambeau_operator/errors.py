"""What can go wrong in the control plane, named after what happened."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass


class OperatorFault(Exception):
    """Anything this program raises on purpose."""


@dataclass(frozen=True, slots=True)
class FieldProblem:
    """One field that cannot be accepted, and why."""

    path: str  # "spec.models[0].source.uri"
    message: str
    nearest: str | None = None  # the known name that an unknown one resembles most

    def __str__(self) -> str:
        hint = f", did you mean {self.nearest!r}?" if self.nearest else ""
        return f"{self.path}: {self.message}{hint}"


class InvalidSpec(OperatorFault):
    """The object is not a ModelDeployment that this version can serve."""

    def __init__(self, problems: Sequence[FieldProblem]) -> None:
        super().__init__("; ".join(str(problem) for problem in problems))
        self.problems = tuple(problems)


class DoorFault(OperatorFault):
    """Something asked of the world did not happen; the pass goes on without it.

    DoorFault
    ├── Conflict      the object is another one than was read: drop the pass
    ├── Unavailable   the cluster cannot do it now
    ├── Rejected      the cluster will not have it as it is asked
    ├── Silent        a pod gives no usable answer
    └── Refused       a pod answers no
    """


class Conflict(DoorFault):
    """The object changed since it was read; the pass is worthless."""


class Unavailable(DoorFault):
    """The cluster could not do what was asked, for a reason that may pass."""


class Rejected(DoorFault):
    """The cluster says no, and will say so again until something else has changed."""

    def __init__(self, status: int, reason: str, message: str) -> None:
        super().__init__(f"{status} {reason}: {message}")
        self.status = status
        self.reason = reason  # "Forbidden", "Invalid", …
        self.message = message


class Silent(DoorFault):
    """A pod's management API did not answer, or not in our language."""


class Refused(DoorFault):
    """A pod answered, and said no."""

    def __init__(self, status: int, body: Mapping[str, object]) -> None:
        super().__init__(f"{status} {body.get('type', '')}: {body.get('message', dict(body))}")
        self.status = status
        self.body = body


class InvalidSettings(OperatorFault):
    """The environment of the operator says something that cannot be."""

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("; ".join(problems))
        self.problems = tuple(problems)


class PortInUse(OperatorFault):
    """An address cannot be bound."""

    def __init__(self, host: str, port: int, why: str) -> None:
        super().__init__(f"cannot listen on {host} port {port}: {why}")
        self.host = host
        self.port = port


class StateDirInUse(OperatorFault):
    """Another session works in the same folder."""

    def __init__(self, folder: str) -> None:
        super().__init__(f"another session works in {folder}")
        self.folder = folder
