"""Copies of requests for a version that only listens, behind the back of the one that answers.

A copy is made once the real answer has been given, so that it can neither delay nor fail it. All of
it is bounded: a copy goes only where the shadow's queue is short, and what is kept for comparing is
few and small. What is dropped is counted and no harm.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque

from flambeau_runtime.errors import DeadlineExceeded, PredictionFailed, RuntimeFault, WorkerLost
from flambeau_runtime.serving.arena import Arena
from flambeau_runtime.serving.batching import JobQueue
from flambeau_runtime.serving.compare import Comparison, Rule, read_rules
from flambeau_runtime.serving.counters import COPY, FIRST_SERVER_ERROR, CopyCounts
from flambeau_runtime.serving.desired import Shadow, VersionSpec
from flambeau_runtime.serving.job import Job, Payload, Prediction, Reply
from flambeau_runtime.serving.live_version import LiveVersion
from flambeau_runtime.serving.observed import WorkerCounts
from flambeau_runtime.serving.traffic import ALL, Chance

log = logging.getLogger(__name__)

LARGEST_BODY_BYTES = 8 * 1024 * 1024
"""Requests with a larger body are not copied: copying alone would hold others up."""
MOST_BODY_BYTES = 64 * 1024 * 1024
"""Of all copies on their way together."""
LARGEST_ANSWER_BYTES = 1024 * 1024
MOST_ANSWERS = 64
"""So many answers are kept, each so large at most, until the shadow's are there to compare."""
GATHER_S = 0.002
"""Copies go together: one frame and one worker that wakes up are cheaper than many."""
COPIES_AT_ONCE = 4
"""So many are sent before requests come first again."""
MOST_SEEN = 256
"""So many answered requests wait to be copied."""
PLACES_AT_ONCE = 100
"""How far a comparison goes before requests come first again."""


class Mirror:
    """What copies the requests of one model; it outlives the versions."""

    def __init__(self) -> None:
        self._chance = Chance()
        self._shadow: LiveVersion | None = None
        self._percent = 0
        self._room = 0
        self._rules: tuple[Rule, ...] = ()
        self._wish: Shadow | None = None
        self._seen: deque[tuple[Payload, Prediction]] = deque()
        self._answers = 0  # that are kept
        self._bytes = 0  # of the bodies of copies on their way
        self._open: deque[tuple[Comparison, CopyCounts]] = deque()

    def aim(self, live: LiveVersion, wish: Shadow) -> None:
        """Copy to this version from now on; its ready workers bound how many copies may wait."""
        if self._wish != wish:
            self._wish, self._rules = wish, read_rules(wish)
        self._shadow, self._percent = live, wish.percent
        self._room = live.counts().ready * live.spec.batching.max_size

    def wants(self) -> bool:
        """Say whether the next request is one of those that are copied."""
        return self._percent >= ALL or self._chance.point() < self._percent

    def saw(self, payload: Payload, prediction: Prediction) -> None:
        """Take note of an answered request; its copy goes a little later."""
        if self._shadow is None:
            return
        if len(self._seen) >= MOST_SEEN:
            self._shadow.counters.copies.dropped += 1
            return
        self._seen.append((payload, prediction))
        if len(self._seen) == 1:
            asyncio.get_running_loop().call_later(GATHER_S, self._send)

    def _send(self) -> None:
        for _ in range(min(COPIES_AT_ONCE, len(self._seen))):
            payload, prediction = self._seen.popleft()
            if self._shadow is not None:
                self._send_one(self._shadow, payload, prediction)
        if self._seen:
            asyncio.get_running_loop().call_soon(self._send)

    def _send_one(self, shadow: LiveVersion, payload: Payload, prediction: Prediction) -> None:
        size = len(payload.body)
        too_much = size > LARGEST_BODY_BYTES or self._bytes + size > MOST_BODY_BYTES
        if too_much or len(shadow.queue) >= self._room:
            shadow.counters.copies.dropped += 1
            return
        reply = _Copied(self, shadow.counters.copies, self._keep(prediction), size)
        now = time.monotonic()
        deadline = now + shadow.spec.timeouts.response_s
        job = Job(copy_of(payload, shadow.queue.arena), reply, now, deadline, COPY)
        try:
            shadow.submit(job)
        except RuntimeFault as fault:
            job.fail(fault)

    def _keep(self, prediction: Prediction) -> Prediction | None:
        """Return the answer as it can be kept; None where there is no room for it."""
        if self._answers >= MOST_ANSWERS or len(prediction.body) > LARGEST_ANSWER_BYTES:
            return None
        self._answers += 1
        # A view would keep the whole frame that it came with.
        return Prediction(prediction.status, body=bytes(prediction.body))

    def over(self, size: int) -> None:
        """Take note that a copy with so long a body is on its way no more."""
        self._bytes -= size

    def under_way(self, size: int) -> None:
        """Take note of a copy with so long a body."""
        self._bytes += size

    def forget(self) -> None:
        """Take note that a kept answer is not needed any more."""
        self._answers -= 1

    def compare(self, real: Prediction, copy: Prediction, counts: CopyCounts) -> None:
        """Compare two answers, little by little; the real one is kept until then."""
        self._open.append((Comparison(real, copy, self._rules), counts))
        if len(self._open) == 1:
            asyncio.get_running_loop().call_soon(self._go_on)

    def _go_on(self) -> None:
        comparison, counts = self._open[0]
        if comparison.step(PLACES_AT_ONCE):
            self._open.popleft()
            self.forget()
            if not comparison.undecided:
                note(counts, comparison.difference)
        if self._open:
            asyncio.get_running_loop().call_soon(self._go_on)


def note(counts: CopyCounts, difference: str | None) -> None:
    """Count a comparison; the first difference is kept in words."""
    counts.compared += 1
    if difference is not None:
        counts.different += 1
        counts.difference = counts.difference or difference


def copy_of(payload: Payload, arena: Arena | None) -> Payload:
    """Return a payload of its own; a body in shared memory is copied to where others can read it.

    All other bodies are shared: nobody writes into them.
    """
    body, region = payload.body, None
    if payload.region is not None:
        region = None if arena is None else arena.take(len(body))
        if region is None:
            body = bytes(body)
        else:
            region.view[:] = body
            body = region.view
    copied = Payload(
        payload.request_id,
        payload.headers,
        body,
        payload.content_type,
        payload.url_path,
        payload.explain,
        payload.describe,
        payload.spelling,
    )
    copied.region = region
    return copied


class Shadowed:
    """A version whose answered requests are copied. To whoever asks it is that version."""

    __slots__ = ("_mirror", "live")

    def __init__(self, live: LiveVersion, mirror: Mirror) -> None:
        self.live = live
        self._mirror = mirror

    @property
    def spec(self) -> VersionSpec:
        """What is wanted of it."""
        return self.live.spec

    @property
    def queue(self) -> JobQueue:
        """Where its jobs wait."""
        return self.live.queue

    def counts(self) -> WorkerCounts:
        """Its workers by what they can do now."""
        return self.live.counts()

    def submit(self, job: Job) -> None:
        """Queue a job, and see to it that it is copied once it is answered.

        Raises:
            RuntimeFault: as the version itself.
        """
        if self._mirror.wants():
            job.reply = _Witness(job.reply, self._mirror)
        self.live.submit(job)


class _Witness:
    """Passes on what a job is answered with, first of all; then has the request copied.

    A request is not copied when its answer is a stream, a fault or a server's error: there is
    nothing then that the shadow's answer could be held against.
    """

    __slots__ = ("_mirror", "_reply", "_streams")

    def __init__(self, reply: Reply, mirror: Mirror) -> None:
        self._reply = reply
        self._mirror = mirror
        self._streams = False

    def part(self, job: Job, prediction: Prediction) -> None:
        self._streams = True
        self._reply.part(job, prediction)

    def answered(self, job: Job, prediction: Prediction) -> None:
        self._reply.answered(job, prediction)
        if not self._streams and prediction.status < FIRST_SERVER_ERROR:
            self._mirror.saw(job.payload, prediction)

    def failed(self, job: Job, fault: RuntimeFault) -> None:
        self._reply.failed(job, fault)


class _Copied:
    """The reply of a copy: counts what became of it, and nobody else hears of it."""

    __slots__ = ("_counts", "_mirror", "_real", "_size")

    def __init__(
        self, mirror: Mirror, counts: CopyCounts, real: Prediction | None, size: int
    ) -> None:
        self._mirror = mirror
        self._counts = counts
        self._real = real
        self._size = size
        mirror.under_way(size)

    def part(self, job: Job, prediction: Prediction) -> None:  # noqa: ARG002  the reply's interface
        """The real answer came as one: this is another, whatever else there is to come."""
        job.abandon()
        self._took(job)
        if self._over() is not None:
            self._mirror.forget()
            note(self._counts, "an answer in pieces, not as one")

    def answered(self, job: Job, prediction: Prediction) -> None:
        self._took(job)
        real = self._over()
        if prediction.status >= FIRST_SERVER_ERROR:
            self._counts.errors += 1
        if real is None:
            return
        if prediction.status >= FIRST_SERVER_ERROR:
            self._mirror.forget()
        elif prediction.status == real.status and prediction.body == real.body:
            self._mirror.forget()
            note(self._counts, None)
        else:
            kept = Prediction(prediction.status, body=bytes(prediction.body))
            self._mirror.compare(real, kept, self._counts)

    def failed(self, job: Job, fault: RuntimeFault) -> None:
        if self._over() is not None:
            self._mirror.forget()
        late = isinstance(fault, DeadlineExceeded) and job.sent_at > 0
        if late or isinstance(fault, PredictionFailed | WorkerLost):
            self._took(job)
            self._counts.errors += 1
        else:
            self._counts.dropped += 1

    def _took(self, job: Job) -> None:
        self._counts.answered += 1
        self._counts.latency.observe((time.monotonic() - job.queued_at) * 1_000)

    def _over(self) -> Prediction | None:
        self._mirror.over(self._size)
        real, self._real = self._real, None
        return real
