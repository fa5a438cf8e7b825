"""What handlers import to send pieces of an answer before the whole is there."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

from flambeau_runtime.worker.class_import import import_class
from flambeau_runtime.worker.context import Context

__all__ = ["import_class", "send_intermediate_predict_response"]

FIRST_RANK = "0"


def send_intermediate_predict_response(
    ret: Sequence[Any] | Mapping[int, Any],
    req_id_map: Mapping[int, str],
    message: str,
    code: int,
    context: Context | None = None,
) -> None:
    """Send one piece of the answer of each request that `req_id_map` (index → id) names.

    `ret` holds the pieces by the same index; a handler passes `context.request_ids` and one piece
    per request. What it returns in the end is the last piece. With a `code` other than 200 these
    requests end with that status and `message`.

    Waits while a client does not read. Of a model that runs in several processes only the first
    sends.

    Raises:
        ReaderLeft (a ConnectionAbortedError): nobody reads the answers of this batch any more.
        PredictionFailed: a piece cannot be sent, for the reason that it names.
    """
    if os.environ.get("LOCAL_RANK", FIRST_RANK) != FIRST_RANK:
        return
    if context is None or context.cl_socket is None:
        raise ValueError("send_intermediate_predict_response needs the context of a running batch")
    context.cl_socket.send(ret, req_id_map, message, code, context)
