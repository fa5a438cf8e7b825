"""The wire between front and worker: frames over one unix stream socket, both little-endian.

A frame is a 12-byte header `length u32, batch u32, kind u8, 3 zero bytes` and `length` bytes of payload. From the
first day it carries a batch id and a kind, so that streams, cancelling and a next batch sent ahead need no second
format. Both sides import this module and nothing else of each other.
"""

from __future__ import annotations

import struct
from enum import IntEnum

HEADER = struct.Struct("<IIB3x")
"""length of the payload, batch id (0: not about a batch), kind."""


class Kind(IntEnum):
    """What a frame says."""

    LOAD = 1  # front → worker: JSON, what to load
    LOADED = 2  # worker → front: JSON, {"pid": …}
    PREDICT = 3  # front → worker: one batch
    PART = 4  # worker → front: a piece of a streamed answer, more will come
    END = 5  # worker → front: one prediction per row, the batch is over
    FAULT = 6  # worker → front: JSON, the batch (or with batch 0 the load) failed
    CANCEL = 7  # front → worker: nobody waits for this batch any more
    PING = 8
    PONG = 9
    METRICS = 10  # worker → front: JSON, what the handler measured
