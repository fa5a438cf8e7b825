"""No library of this process opens a connection to where clouds keep credentials.

Each of them resolves names, follows redirects and reads endpoints from variables in its own way;
all of them connect sockets in the end.
"""

from __future__ import annotations

import sys
from typing import Any

from flambeau_runtime.archive.download import LinkLocalRefused
from flambeau_runtime.archive.sources import refuse_link_local
from flambeau_runtime.errors import SourceNotFound


def keep_away_from_metadata() -> None:
    """Refuse such connections from now on, in every thread; it cannot be taken back."""
    sys.addaudithook(_judge)


def _judge(event: str, arguments: tuple[Any, ...]) -> None:
    if event != "socket.connect":
        return
    address = arguments[1]
    if isinstance(address, tuple) and address:
        try:
            refuse_link_local(str(address[0]))
        except SourceNotFound as error:
            raise LinkLocalRefused(str(error)) from error
