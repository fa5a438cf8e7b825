"""The session's end of the guard: tells it which processes must not outlive the session."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from flambeau_operator.local import guard

PATIENCE_S: Final = 5.0


class Guard:
    """A guard process for as long as the block lasts; see `local/guard.py` for what it does.

    Args:
        remove: folders that shall be gone in the end.
    """

    def __init__(self, remove: Sequence[Path] = ()) -> None:
        self._remove = remove
        self._process: Process | None = None

    async def __aenter__(self) -> Self:
        """Start the guard, out of reach of a terminal's signals."""
        self._process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-I",
            "-S",
            str(Path(guard.__file__)),
            stdin=PIPE,
            stdout=DEVNULL,
            stderr=DEVNULL,
            start_new_session=True,
        )
        for folder in self._remove:
            self._order(f"rm {folder}")
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Let the guard do what is left, and wait for it."""
        process = self._process
        if process is None or process.stdin is None:
            return
        process.stdin.close()
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            await process.stdin.wait_closed()
        try:
            async with asyncio.timeout(PATIENCE_S):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()

    def add(self, pid: int) -> None:
        """End this process group if the session is killed."""
        self._order(f"+{pid}")

    def remove(self, pid: int) -> None:
        """The group is gone."""
        self._order(f"-{pid}")

    def _order(self, line: str) -> None:
        if self._process is not None and self._process.stdin is not None:
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                self._process.stdin.write(f"{line}\n".encode())
