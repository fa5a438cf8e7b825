"""From a call to a job: the row that its inputs make, and the answer it gets."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from flambeau_runtime import protocol
from flambeau_runtime.api.authorisation import InferenceGate
from flambeau_runtime.api.door import Routes, Version
from flambeau_runtime.api.grpc.calls import Call
from flambeau_runtime.api.grpc.pieces import Body, Pieces
from flambeau_runtime.api.grpc.refusals import at_the_door, from_worker
from flambeau_runtime.api.payload import RequestIds, accepted_id
from flambeau_runtime.errors import PredictionFailed, RuntimeFault
from flambeau_runtime.protocol import NamedPart
from flambeau_runtime.serving.arena import BIG_BODY_BYTES
from flambeau_runtime.serving.job import Job, Payload

REQUEST_ID = "x-request-id"


class Predictor:
    """Asks versions for predictions on behalf of calls."""

    def __init__(self, routes: Routes, gate: InferenceGate | None, max_answer_bytes: int) -> None:
        self._routes = routes
        self._gate = gate
        self._max_answer_bytes = max_answer_bytes
        self._fresh_id = RequestIds().fresh

    def admit(self, call: Call) -> None:
        """Let the caller predict.

        Raises:
            Refused: its token does not say that it may.
        """
        if self._gate is None:
            return
        sent = call.metadata("authorization")
        block = (
            b"" if sent is None else b"authorization: %b\r\n" % sent.encode("latin-1", "replace")
        )
        try:
            self._gate(block)
        except RuntimeFault as fault:
            raise at_the_door(fault) from fault

    def find(self, model: str, version: str, call: Call, headers: bytes = b"") -> Version:
        """Return who answers; an empty version is whichever the model's weights say.

        Args:
            model: its name.
            version: its version.
            call: whose metadata may say which version the caller keeps.
            headers: what the handler sees beside them.

        Raises:
            Refused: nobody does.
        """
        try:
            return self._routes.route(model, version or None, call.headers() + b"\r\n" + headers)
        except RuntimeFault as fault:
            raise at_the_door(fault) from fault

    @contextmanager
    def asked(
        self,
        live: Version,
        call: Call,
        parts: Iterable[NamedPart],
        *,
        named: bool,
        headers: bytes = b"",
    ) -> Iterator[Pieces]:
        """Queue one row, and yield its answer; leaving the block gives up what is still to come.

        Args:
            live: who is asked.
            call: on whose behalf.
            parts: the values of the row.
            named: whether the caller named the version.
            headers: the request's headers as the handler shall see them.

        Raises:
            Refused: the version takes no job now, or (in the block) the job fails.
        """
        now = asyncio.get_running_loop().time()
        timeout_s = live.spec.timeouts.response_s
        left_s = call.time_left_s
        asked_for = left_s is not None and left_s < timeout_s
        deadline = now + (timeout_s if left_s is None else min(left_s, timeout_s))
        pieces = Pieces()
        payload = self._payload(live, call, list(parts), headers)
        job = Job(payload, pieces, now, deadline, named)
        try:
            live.submit(job)
        except RuntimeFault as fault:
            raise at_the_door(fault) from fault
        try:
            yield pieces
        except RuntimeFault as fault:
            raise from_worker(fault, asked_for=asked_for) from fault
        finally:
            job.abandon()

    async def whole(self, pieces: Pieces) -> Body:
        """Return an answer as one, also where the handler gives it in pieces.

        Raises:
            RuntimeFault: why there is none.
        """
        first = await pieces.read()
        assert first is not None  # noqa: S101  an answer has a piece at least
        second = await pieces.read()
        if second is None:
            return first
        joined = bytearray(first)
        piece: Body | None = second
        while piece is not None:
            joined += piece
            if len(joined) > self._max_answer_bytes:
                raise PredictionFailed(
                    f"The pieces of the answer are longer than max_response_size"
                    f" ({self._max_answer_bytes} bytes); read them with StreamPredictions."
                )
            piece = await pieces.read()
        return joined

    def _payload(
        self, live: Version, call: Call, parts: list[NamedPart], headers: bytes
    ) -> Payload:
        request_id = self._id_of(call)
        buffers = protocol.pack_parts(parts)
        size = sum(map(len, buffers))
        arena = live.queue.arena
        region = arena.take(size) if arena is not None and size >= BIG_BODY_BYTES else None
        if region is None:
            return Payload(request_id, headers, b"".join(buffers), protocol.PARTS)
        at = 0
        for buffer in buffers:
            region.view[at : at + len(buffer)] = buffer
            at += len(buffer)
        payload = Payload(request_id, headers, region.view, protocol.PARTS)
        payload.region = region
        return payload

    def _id_of(self, call: Call) -> str:
        """Return the id that the client sent, which is echoed, or a fresh one."""
        sent = call.metadata(REQUEST_ID)
        known = None if sent is None else accepted_id(sent.encode("latin-1", "replace"))
        if known is None:
            return self._fresh_id()
        call.echo(REQUEST_ID, known)
        return known
