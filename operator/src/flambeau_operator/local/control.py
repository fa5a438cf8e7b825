"""How commands reach a running session: one socket per session, for its own user alone.

A session listens in a folder of its own below the machine's temporary folder; that the socket
answers is all the registration there is. One question a connection: a line of JSON each way.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any, Final

from flambeau_operator.doors import Key
from flambeau_operator.errors import Conflict, DoorFault, Unavailable

PREFIX: Final = "flambeau-up-"
SOCKET: Final = "control"
LONGEST_PATH: Final = 100  # bytes; the address of a socket ends at 104 to 108
LONGEST_LINE: Final = 16 << 20
PATIENCE_S: Final = 5.0

Message = Mapping[str, Any]
Answer = Callable[[Message], Awaitable[Message]]
"""Answers a question; Conflict and Unavailable become words for whoever asked."""


class SessionEnded(DoorFault):
    """Nobody listens there any more."""


def control_folder() -> Path:
    """Make the folder that a session listens in; only its user may enter."""
    return Path(tempfile.mkdtemp(prefix=f"{PREFIX}{os.getpid()}-", dir=_base()))


def _base() -> Path:
    """Return where sessions are looked for: /tmp where the own folder has too long a name."""
    wanted = Path(tempfile.gettempdir())
    longest = wanted / f"{PREFIX}4194304-xxxxxxxx" / SOCKET
    return wanted if len(os.fsencode(longest)) <= LONGEST_PATH else Path("/tmp")  # noqa: S108


@contextlib.asynccontextmanager
async def listening(folder: Path, answer: Answer) -> AsyncIterator[None]:
    """Answer questions for as long as the block lasts.

    Raises:
        Unavailable: the socket cannot be made.
    """

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, TimeoutError):
            async with asyncio.timeout(PATIENCE_S):
                said = await _answered(reader, answer)
                writer.write(json.dumps(said).encode() + b"\n")
                await writer.drain()
        writer.close()

    try:
        server = await asyncio.start_unix_server(serve, folder / SOCKET, limit=LONGEST_LINE)
    except OSError as error:
        raise Unavailable(f"cannot listen on {folder / SOCKET}: {error.strerror}") from error
    try:
        yield
    finally:
        server.close()


async def _answered(reader: asyncio.StreamReader, answer: Answer) -> Message:
    try:
        question = json.loads(await reader.readline())
        return await answer(question)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        return {"error": {"reason": "Misunderstood", "message": f"not a question: {error!r}"}}
    except (Conflict, Unavailable) as error:
        return {"error": {"reason": type(error).__name__, "message": str(error)}}


async def ask(session: Path, question: Message) -> Message:
    """Ask a session and return its answer.

    Raises:
        Conflict: the object is another one by now, or gone.
        Unavailable: the session cannot do it now.
        SessionEnded: it is no more.
    """
    try:
        async with asyncio.timeout(PATIENCE_S):
            answer = json.loads(await _exchange(session, json.dumps(question).encode() + b"\n"))
    except (FileNotFoundError, ConnectionRefusedError) as error:
        raise SessionEnded(f"the flambeau up that listened on {session} has ended") from error
    except (OSError, TimeoutError, ValueError) as error:
        raise Unavailable(f"flambeau up does not answer on {session}: {error}") from error
    if not isinstance(answer, dict):
        raise Unavailable(f"what answers on {session} is not flambeau up")
    if refusal := answer.get("error"):
        kind = Conflict if refusal.get("reason") == "Conflict" else Unavailable
        raise kind(str(refusal.get("message", "")))
    return answer


async def _exchange(session: Path, line: bytes) -> bytes:
    reader, writer = await asyncio.open_unix_connection(session, limit=LONGEST_LINE)
    try:
        writer.write(line)
        await writer.drain()
        return await reader.readline()
    finally:
        writer.close()


def session_sockets() -> tuple[Path, ...]:
    """Return where sessions of this user listen, or listened before they were killed."""
    found = sorted(_base().glob(f"{PREFIX}*/{SOCKET}"))
    return tuple(each for each in found if _is_ours(each.parent))


def _is_ours(folder: Path) -> bool:
    """Tell whether a folder is this user's alone: in /tmp, anybody may make one of that name."""
    try:
        found = folder.lstat()
    except OSError:
        return False
    return found.st_uid == os.getuid() and not found.st_mode & 0o077


def question(verb: str, key: Key | None = None, **details: object) -> dict[str, Any]:
    """Return a question as a session understands it."""
    about = {"namespace": key.namespace, "name": key.name} if key else {}
    return {"verb": verb, **about, **details}
