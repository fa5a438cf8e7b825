"""Closing a socket under the eyes of its kernel: what has come is not thrown away.

A socket that is closed over bytes which nobody has read answers with a reset, and so does a
listening one to connections that nobody has accepted. Their clients did nothing wrong: they asked
before the close, while the loop was busy elsewhere.
"""

from __future__ import annotations

import os
import select
import socket
from contextlib import suppress


def has_unread(descriptor: int) -> bool:
    """Whether there are bytes or connections to take, or an end that was not noticed yet."""
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    return bool(poll.poll(0))


def send_end(descriptor: int) -> None:
    """Tell the other side at once that nothing more is sent.

    A loop closes in a later turn. On a busy machine that is milliseconds after somebody looked
    whether anything had come, and requests come in milliseconds.
    """
    # uvloop's sockets have no shutdown(), and its transports put write_eof() off, too.
    with suppress(OSError), socket.socket(fileno=os.dup(descriptor)) as twin:
        twin.shutdown(socket.SHUT_WR)
