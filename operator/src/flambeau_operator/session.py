"""Local mode as a whole: files become deployments, deployments become processes, one address each.

What `watch` is on Kubernetes, this is on one machine: it feeds the work queue, and decides nothing.
The command line draws what `observe()` returns.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Self

from flambeau_operator.doors import Key
from flambeau_operator.plan.plan import Event


@dataclass(frozen=True, slots=True)
class LocalPod:
    """One runtime process, for people."""

    name: str
    pid: int | None  # None while it waits for its restart
    phase: str  # Starting | NotReady | Ready | Draining | BackingOff
    restarts: int
    inference_url: str  # empty until the runtime listens
    management_url: str
    log_file: Path
    last_exit: str | None = None  # "exit code 3" or "killed by SIGKILL", of the last death


@dataclass(frozen=True, slots=True)
class LocalEvent:
    """Something that happened to a deployment, once."""

    at: datetime
    event: Event


@dataclass(frozen=True, slots=True)
class LocalDeployment:
    """One deployment as it stands."""

    key: Key
    url: str  # the balanced address, "http://127.0.0.1:8080"
    generation: int
    status: Mapping[str, object]  # as API.md section 1, camelCase; {} before the first pass
    pods: tuple[LocalPod, ...]
    events: tuple[LocalEvent, ...]  # oldest first, the last 100
    problems: tuple[str, ...] = ()  # what the last pass could not do


class LocalSession:
    """ModelDeployments served by processes of this machine for as long as the block lasts.

    Args:
        state_dir: where objects, logs and the runtimes' state lie; None takes a temporary folder
            that vanishes with the session. A folder serves one session at a time.
        base_port: port of the first deployment's address, the next one gets the next; 0 takes any.
        host: loopback address to listen on; with 127.0.0.1, ::1 is served too where there is one.
        command: how to start a runtime, without its flags; None is the one that is installed.

    Raises (on entering):
        StateDirInUse: another session works in `state_dir`.
    """

    def __init__(
        self,
        state_dir: Path | None = None,
        *,
        base_port: int = 8080,
        host: str = "127.0.0.1",
        command: tuple[str, ...] | None = None,
    ) -> None:
        self._state_dir = state_dir
        self._base_port = base_port
        self._host = host
        self._command = command

    async def __aenter__(self) -> Self:
        """Start the work queue; no process yet."""
        raise NotImplementedError

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Stop the pods in order (drain, SIGTERM, grace, SIGKILL), remove what was temporary."""
        raise NotImplementedError

    async def apply(self, body: Mapping[str, object]) -> Key:
        """Create or update one deployment from a manifest; nothing changes if it raises.

        Raises:
            InvalidSpec: the manifest is wrong; every problem at once.
            PortInUse: its address cannot be bound.
        """
        raise NotImplementedError

    async def delete(self, key: Key) -> None:
        """Stop serving one deployment and forget it."""
        raise NotImplementedError

    def observe(self) -> tuple[LocalDeployment, ...]:
        """Return every deployment as it stands, in the order they were first applied."""
        raise NotImplementedError

    async def wait_change(self) -> None:
        """Return when something that `observe` shows has changed since it was last called."""
        raise NotImplementedError
