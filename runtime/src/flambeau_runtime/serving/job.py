"""One request inside: what it brings, what it gets, and the rule that it ends exactly once."""

from __future__ import annotations

import asyncio
import logging
from typing import Protocol

from flambeau_runtime.errors import DeadlineExceeded, PredictionFailed, RuntimeFault
from flambeau_runtime.protocol import Region

log = logging.getLogger(__name__)

LONGEST_JOINED = 256 * 1024 * 1024
"""Bytes: whoever wants all pieces of a streamed answer in one must be able to hold them."""

BROKEN_REPLY = "a reply broke while it took the end of its job"


class Payload:
    r"""What a job brings.

    `headers` is the client's own block, `b"Name: value\r\n"` per header. `region` is the place in
    the shared arena where the body lies, and `body` its view; None when the body travels through
    the socket. `spelling` says what else the path means (`protocol.WITHOUT_PATH`, `WITH_QUERY`).
    """

    __slots__ = (
        "body",
        "content_type",
        "describe",
        "explain",
        "headers",
        "region",
        "request_id",
        "spelling",
        "url_path",
    )

    def __init__(  # noqa: PLR0913, PLR0917  a record: every argument is a field
        self,
        request_id: str,
        headers: bytes,
        body: bytes | bytearray | memoryview,
        content_type: str,
        url_path: str = "",
        explain: bool = False,  # noqa: FBT001, FBT002, RUF100  positional: built once per request
        describe: bool = False,  # noqa: FBT001, FBT002, RUF100
        spelling: int = 0,
    ) -> None:
        self.request_id = request_id
        self.headers = headers
        self.body = body
        self.content_type = content_type
        self.url_path = url_path
        self.explain = explain
        self.describe = describe
        self.spelling = spelling
        self.region: Region | None = None


class Prediction:
    """What a job gets: the handler's result for one row, with the headers that the handler set."""

    __slots__ = ("body", "headers", "phrase", "status")

    def __init__(
        self,
        status: int = 200,
        phrase: str = "",
        headers: tuple[tuple[str, str], ...] = (),
        body: bytes | bytearray | memoryview = b"",
    ) -> None:
        self.status = status
        self.phrase = phrase
        self.headers = headers
        self.body = body


class Reply(Protocol):
    """Whoever waits for a job: any number of pieces, then exactly one end, all on the loop.

    A reply whose reader is slow says `job.hold()`, and `job.go_on()` when there is room again:
    meanwhile the handler that makes the pieces is held up. One whose reader left says
    `job.abandon()`.
    """

    def part(self, job: Job, prediction: Prediction) -> None:
        """Take a piece of a streamed answer; the first one brings status and headers for all."""

    def answered(self, job: Job, prediction: Prediction) -> None:
        """Take the prediction; after pieces, the last of them."""

    def failed(self, job: Job, fault: RuntimeFault) -> None:
        """Take the reason why there is none; after pieces, why the rest will not come."""


class Feed(Protocol):
    """Where a streamed answer comes from."""

    def hold(self, job: Job) -> None:
        """Let no more pieces come until told to go on."""

    def go_on(self, job: Job) -> None:
        """Let pieces come again."""

    def left(self, job: Job) -> None:
        """Take note that nobody waits for this job any more."""


class Job:
    """One request on its way. Whoever ends it first wins; all later ends are passed by.

    A reply that raises is logged: its companions in the batch must not feel it.

    Times are on the monotonic clock, as the loop's. `deaths` counts the workers that died while
    they had it; `alone` says that it must not share a batch any more, `named` that its caller named
    the version (or, with `counters.COPY`, that it is a shadow's copy); `feed` is where its pieces
    come from, once there has been one: from then on it is never handed to another worker.
    """

    __slots__ = (
        "alone",
        "deadline",
        "deaths",
        "ended",
        "feed",
        "named",
        "payload",
        "queued_at",
        "reply",
        "sent_at",
    )

    def __init__(
        self,
        payload: Payload,
        reply: Reply,
        queued_at: float,
        deadline: float,
        named: int = False,
    ) -> None:
        self.named = named
        self.payload = payload
        self.reply = reply
        self.queued_at = queued_at
        self.deadline = deadline
        self.sent_at = 0.0
        self.deaths = 0
        self.alone = False
        self.ended = False
        self.feed: Feed | None = None

    def part(self, prediction: Prediction, feed: Feed) -> None:
        """Pass a piece on; `feed` is told when the reader is slow or leaves."""
        if not self.ended:
            self.feed = feed
            try:
                self.reply.part(self, prediction)
            except Exception:
                log.exception(BROKEN_REPLY)

    def hold(self) -> None:
        """Hold the pieces up: the reader is slow."""
        if self.feed is not None and not self.ended:
            self.feed.hold(self)

    def go_on(self) -> None:
        """Let the pieces come again."""
        if self.feed is not None and not self.ended:
            self.feed.go_on(self)

    def resolve(self, prediction: Prediction) -> None:
        """End with a prediction."""
        if not self.ended:
            self.ended = True
            try:
                self.reply.answered(self, prediction)
            except Exception:
                log.exception(BROKEN_REPLY)

    def fail(self, fault: RuntimeFault) -> None:
        """End with a fault."""
        if not self.ended:
            self.ended = True
            try:
                self.reply.failed(self, fault)
            except Exception:
                log.exception(BROKEN_REPLY)

    def abandon(self) -> None:
        """End because nobody waits any more; no reply is called."""
        if not self.ended:
            self.ended = True
            if self.feed is not None:
                self.feed.left(self)


class Accepts(Protocol):
    """The part of a live version that takes jobs."""

    def submit(self, job: Job) -> None:
        """Queue a job, or raise QueueFull or ModelNotReady."""


class _Answer:
    """A reply that is awaited, and takes the pieces of a streamed answer together."""

    __slots__ = ("future", "parts", "size")

    def __init__(self, future: asyncio.Future[Prediction]) -> None:
        self.future = future
        self.parts: list[Prediction] = []
        self.size = 0

    def part(self, job: Job, prediction: Prediction) -> None:
        self.parts.append(prediction)
        self.size += len(prediction.body)
        if self.size > LONGEST_JOINED:
            self.parts.clear()
            job.abandon()
            too_long = f"The pieces of the answer are longer than {LONGEST_JOINED} bytes together."
            self.failed(job, PredictionFailed(too_long))

    def answered(self, job: Job, prediction: Prediction) -> None:  # noqa: ARG002  the reply's interface
        if not self.future.done():
            self.future.set_result(self._whole(prediction))

    def _whole(self, last: Prediction) -> Prediction:
        if not self.parts:
            return last
        first = self.parts[0]
        body = b"".join(part.body for part in [*self.parts, last])
        return Prediction(first.status, first.phrase, first.headers, body)

    def failed(self, job: Job, fault: RuntimeFault) -> None:  # noqa: ARG002  the reply's interface
        if not self.future.done():
            self.future.set_exception(fault)


async def ask(version: Accepts, payload: Payload, timeout_s: float, model: str = "") -> Prediction:
    """Queue one job and wait for its prediction; cancelling abandons the job.

    Raises:
        RuntimeFault: whatever kept the job from its prediction; DeadlineExceeded after `timeout_s`.
    """
    loop = asyncio.get_running_loop()
    now = loop.time()
    answer = _Answer(loop.create_future())
    job = Job(payload, answer, now, now + timeout_s)
    version.submit(job)
    try:
        async with asyncio.timeout_at(job.deadline):
            return await answer.future
    except TimeoutError:
        raise DeadlineExceeded(model, timeout_s) from None
    finally:
        job.abandon()
