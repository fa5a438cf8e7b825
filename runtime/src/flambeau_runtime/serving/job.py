"""One request inside: what it brings, what it gets, and the rule that it ends exactly once."""

from __future__ import annotations

import asyncio
import logging
from typing import Protocol

from flambeau_runtime.errors import DeadlineExceeded, RuntimeFault
from flambeau_runtime.protocol import Region

log = logging.getLogger(__name__)

BROKEN_REPLY = "a reply broke while it took the end of its job"


class Payload:
    r"""What a job brings.

    `headers` is the client's own block, `b"Name: value\r\n"` per header. `region` is the place in
    the shared arena where the body lies, and `body` its view; None when the body travels through
    the socket.
    """

    __slots__ = (
        "body",
        "content_type",
        "describe",
        "explain",
        "headers",
        "region",
        "request_id",
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
    ) -> None:
        self.request_id = request_id
        self.headers = headers
        self.body = body
        self.content_type = content_type
        self.url_path = url_path
        self.explain = explain
        self.describe = describe
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
    """Whoever waits for a job. One of the two is called, exactly once, on the loop."""

    def answered(self, job: Job, prediction: Prediction) -> None:
        """Take the prediction."""

    def failed(self, job: Job, fault: RuntimeFault) -> None:
        """Take the reason why there is none."""


class Job:
    """One request on its way. Whoever ends it first wins; all later ends are passed by.

    A reply that raises is logged: its companions in the batch must not feel it.

    Times are on the monotonic clock, as the loop's. `deaths` counts the workers that died while
    they had it; `alone` says that it must not share a batch any more, `named` that its caller named
    the version.
    """

    __slots__ = (
        "alone",
        "deadline",
        "deaths",
        "ended",
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
        named: bool = False,  # noqa: FBT001, FBT002, RUF100  positional: built once per request
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
        """End because nobody waits any more; nothing is called."""
        self.ended = True


class Accepts(Protocol):
    """The part of a live version that takes jobs."""

    def submit(self, job: Job) -> None:
        """Queue a job, or raise QueueFull or ModelNotReady."""


class _Answer:
    """A reply that is awaited."""

    __slots__ = ("future",)

    def __init__(self, future: asyncio.Future[Prediction]) -> None:
        self.future = future

    def answered(self, job: Job, prediction: Prediction) -> None:  # noqa: ARG002  the reply's interface
        if not self.future.done():
            self.future.set_result(prediction)

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
