"""What the kernel holds for a socket: a close must not throw it away.

A socket that is closed over bytes which nobody has read answers with a reset, and so does a
listening one to connections that nobody has accepted. Their clients did nothing wrong: they asked
before the close, while the loop was busy elsewhere.
"""

from __future__ import annotations

import select


def has_unread(descriptor: int) -> bool:
    """Whether there are bytes or connections to take, or an end that was not noticed yet."""
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    return bool(poll.poll(0))
