"""Edits of the files, carried to the session: good ones are applied, broken ones change nothing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from flambeau_operator.cli.manifests import Manifest
from flambeau_operator.cli.problems import Checked, Problem, check_files, located
from flambeau_operator.doors import Key
from flambeau_operator.errors import InvalidSpec, PortInUse, Unavailable
from flambeau_operator.session import LocalSession

# Looking beats being notified: notifications do not cross every mount, need a watch for each folder
# that a link leads to, and can run out; reading a few small files costs nothing.
LOOK_EVERY_S = 0.2


class Edits:
    """What the files said when they were last taken up, and the session that serves it."""

    def __init__(self, files: Sequence[Path], session: LocalSession) -> None:
        self._files = tuple(files)
        self._session = session
        self._applied: dict[Key, Mapping[str, Any]] = {}
        self._taken: tuple[str | None, ...] = ()
        self._unfinished = False  # something good was not taken, for a reason that may pass

    def check(self) -> Checked:
        """Read the files and check them; `follow` looks for what differs from here on."""
        self._taken = self._contents()
        return check_files(self._files)

    def applied(self, key: Key) -> Mapping[str, Any]:
        """Return the manifest that the session has of a deployment; {} for one that is leaving."""
        return self._applied.get(key, {})

    async def take_up(self, checked: Checked) -> tuple[Problem, ...]:
        """Apply what is new and delete what is gone; return everything that is wrong.

        What is broken stays as it was, and nothing is deleted while anything is broken.
        """
        problems = list(checked.problems)
        self._unfinished = False
        for manifest, deployment in checked.good:
            key = Key(deployment.metadata.namespace, deployment.metadata.name)
            if self._applied.get(key) != manifest.body:
                problems.extend(await self._apply(key, manifest))
        if not problems:
            wanted = {Key(each.metadata.namespace, each.metadata.name) for _, each in checked.good}
            for key in self._applied.keys() - wanted:
                await self._session.delete(key)
                del self._applied[key]
        return tuple(problems)

    async def _apply(self, key: Key, manifest: Manifest) -> list[Problem]:
        try:
            await self._session.apply(manifest.body)
        except InvalidSpec as error:
            return located(manifest, error)
        except (PortInUse, Unavailable) as error:
            self._unfinished |= isinstance(error, Unavailable)
            at = manifest.position("")
            return [Problem(manifest.file, at.line, at.column, "", str(error))]
        self._applied[key] = manifest.body
        return []

    async def follow(self) -> AsyncIterator[tuple[Problem, ...]]:
        """Take up each edit as it comes; yield what is wrong after it (nothing: all is well).

        What could not be done is tried again at each look, and told of again once that changes.
        """
        before = self._taken
        told: tuple[Problem, ...] = ()
        while True:
            await asyncio.sleep(LOOK_EVERY_S)
            now = self._contents()
            # Only what two looks agree on: an editor may be in the middle of writing.
            if now == before and (now != self._taken or self._unfinished):
                edited = now != self._taken
                problems = await self.take_up(self.check())
                if edited or problems != told:
                    told = problems
                    yield problems
            before = now

    def _contents(self) -> tuple[str | None, ...]:
        return tuple(_text(file) for file in self._files)


def _text(file: Path) -> str | None:
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, ValueError):
        return None
