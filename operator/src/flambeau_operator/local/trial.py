"""One runtime by itself, to try versions in: nobody's pod, and nothing of it stays."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from flambeau_operator.doors import RuntimeClient
from flambeau_operator.errors import DoorFault, Unavailable
from flambeau_operator.local.cluster import RUNTIME
from flambeau_operator.local.objects import write_file
from flambeau_operator.local.pod import LocalPod, Surroundings, Template, Wards
from flambeau_operator.local.pod_log import log_tail
from flambeau_operator.resources.pod_state import Document, ModelEntry, Owner, PodState
from flambeau_operator.resources.pod_state_json import document_to_json

LISTENS_WITHIN_S: Final = 60.0
LOOK_EVERY_S: Final = 0.02
LONG_POLL_S: Final = 5.0
GRACE_S: Final = 10.0
TAIL_BYTES: Final = 2048


@dataclass(frozen=True, slots=True)
class Tools:
    """What a trial needs of the world around it."""

    runtimes: RuntimeClient
    public_key: str  # of whoever signs the calls of `runtimes`
    wards: Wards
    clock: Callable[[], datetime]


class Trial:
    """A runtime that serves what it is told, for as long as the block lasts.

    Args:
        folder: of this trial alone; its log and its model store lie there.
        tools: of the command.
        command: how to start a runtime, without flags.
    """

    def __init__(self, folder: Path, tools: Tools, command: Sequence[str] = RUNTIME) -> None:
        self._tools = tools
        self._folder = folder
        self._owner = Owner("trial", "trial", str(uuid.uuid4()))
        self._sequence = 0
        self._tasks = asyncio.TaskGroup()
        self._deaths = 0
        boot_file = folder / "models.json"
        write_file(boot_file, self._boot_document())
        flags = {
            "--inference-address": "127.0.0.1:0",
            "--management-address": "127.0.0.1:0",
            "--metrics-address": "127.0.0.1:0",
            "--state-dir": str(folder / "state"),
            "--boot-file": str(boot_file),
            "--owner-uid": self._owner.uid,
        }
        argv = (*command, *(part for flag in flags.items() for part in flag))
        template = Template("trial", self._owner.uid, "", argv, folder, {})
        self._pod = LocalPod(
            template,
            Surroundings(
                runtimes=tools.runtimes,
                wards=tools.wards,
                clock=tools.clock,
                changed=lambda: None,
                died=self._mourn,
                until_free=_nobody_is_connected,
            ),
        )

    async def __aenter__(self) -> Self:
        """Start the runtime and wait until it listens.

        Raises:
            Unavailable: it does not start; its last words are in the message.
        """
        await self._tasks.__aenter__()
        self._tasks.create_task(self._pod.run(), name="trial")
        try:
            async with asyncio.timeout(LISTENS_WITHIN_S):
                while not self._pod.inference_url:
                    self._check_alive()
                    await asyncio.sleep(LOOK_EVERY_S)
        except BaseException as error:
            await self._stop()
            if isinstance(error, TimeoutError):
                raise Unavailable(self._words("the runtime does not listen")) from None
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Stop the runtime and its workers."""
        await self._stop()

    @property
    def inference_url(self) -> str:
        """Where it takes predictions."""
        return self._pod.inference_url

    async def want(self, models: Sequence[ModelEntry]) -> None:
        """Make these the models that it has from now on.

        Raises:
            DoorFault: it will not have them.
        """
        self._sequence += 1
        document = Document(self._owner, self._sequence, self._sequence, tuple(models))
        await self._tools.runtimes.put_state(self._pod.facts(), document)

    async def until(self, is_so: Callable[[PodState], bool]) -> PodState:
        """Return its state once something is true of it.

        Raises:
            Unavailable: it died.
        """
        revision = None
        while True:
            self._check_alive()
            try:
                state = await self._tools.runtimes.get_state(
                    self._pod.facts(), revision, LONG_POLL_S if revision else 0
                )
            except DoorFault:
                self._check_alive()
                await asyncio.sleep(LOOK_EVERY_S)
                continue
            if is_so(state):
                return state
            revision = state.revision

    async def _stop(self) -> None:
        self._pod.ask_to_stop(0, GRACE_S)
        await self._tasks.__aexit__(None, None, None)

    def _mourn(self, pod: LocalPod) -> None:
        self._deaths += 1
        pod.ask_to_stop(0, 0)  # a trial is not tried again by itself

    def _check_alive(self) -> None:
        if self._deaths:
            raise Unavailable(self._words(f"the runtime ended: {self._pod.last_exit}"))

    def _words(self, what: str) -> str:
        tail = log_tail(self._pod.log_file, TAIL_BYTES)
        return f"{what}; its last words:\n{tail}" if tail else what

    def _boot_document(self) -> str:
        document = document_to_json(Document(self._owner, 0, 0, ()))
        return json.dumps({"document": document, "publicKeys": [self._tools.public_key]})


async def _nobody_is_connected(_: str) -> None:
    """Return at once: only this command sends requests to a trial."""
