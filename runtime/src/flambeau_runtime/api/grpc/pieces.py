"""A reply that is read piece by piece, and holds its handler up while nobody reads."""

from __future__ import annotations

import asyncio
from collections import deque

from flambeau_runtime.errors import RuntimeFault
from flambeau_runtime.serving.job import Job, Prediction

HELD_BYTES = 64 * 1024
"""As many bytes may lie unread before the handler has to wait."""

Body = bytes | bytearray | memoryview


class Pieces:
    """What a job is answered with: any number of pieces, then an end or a fault."""

    __slots__ = ("_bytes", "_ended", "_fault", "_held", "_job", "_more", "_waiting")

    def __init__(self) -> None:
        self._waiting: deque[Body] = deque()
        self._bytes = 0
        self._held = False
        self._ended = False
        self._fault: RuntimeFault | None = None
        self._more: asyncio.Future[None] | None = None
        self._job: Job | None = None

    # what the job calls

    def part(self, job: Job, prediction: Prediction) -> None:
        """Take a piece of a streamed answer."""
        self._job = job
        self._take(prediction.body)
        if self._bytes > HELD_BYTES and not self._held:
            self._held = True
            job.hold()

    def answered(self, job: Job, prediction: Prediction) -> None:  # noqa: ARG002  the reply's interface
        """Take the last piece."""
        self._ended = True
        self._take(prediction.body)

    def failed(self, job: Job, fault: RuntimeFault) -> None:  # noqa: ARG002  the reply's interface
        """Take the reason why no more will come."""
        self._ended = True
        self._fault = fault
        self._wake()

    # what the call asks

    async def read(self) -> Body | None:
        """Return the next piece; None after the last.

        Raises:
            RuntimeFault: why there is no more.
        """
        while not self._waiting:
            if self._fault is not None:
                raise self._fault
            if self._ended:
                return None
            self._more = asyncio.get_running_loop().create_future()
            await self._more
        piece = self._waiting.popleft()
        self._bytes -= len(piece)
        if self._held and self._bytes <= HELD_BYTES // 2 and self._job is not None:
            self._held = False
            self._job.go_on()
        return piece

    def _take(self, piece: Body) -> None:
        self._waiting.append(piece)
        self._bytes += len(piece)
        self._wake()

    def _wake(self) -> None:
        if self._more is not None and not self._more.done():
            self._more.set_result(None)
