"""Where archives become packages: fetched, verified, extracted once per digest, off the event loop."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from flambeau_runtime.archive.package import Package

OnProgress = Callable[[int, int | None], None]
"""Called on the event loop with (bytes so far, bytes in all if known)."""


class Store:
    """One directory of extracted archives, and the ways into it."""

    def __init__(
        self,
        root: Path,
        model_store: Path | None = None,
        allowed_urls: tuple[str, ...] = ("file://.*", "https?://.*"),
    ) -> None:
        self.root = root
        self.model_store = model_store
        self.allowed_urls = allowed_urls

    async def fetch(
        self, uri: str, digest: str | None = None, on_progress: OnProgress | None = None
    ) -> Path:
        """Bring what `uri` names onto this disk and verify it.

        Args:
            uri: file://…, http(s)://…, an absolute directory, or a name inside the model store.
            digest: "sha256:<64 hex>" that the archive must have, or None.
            on_progress: told how far a download has come.

        Returns:
            The archive (or directory), to be passed to `open`.

        Raises:
            SourceUnavailable: nothing there, or it may not be read.
            DigestMismatch: something else is there.
        """
        raise NotImplementedError

    async def open(
        self,
        path: Path,
        digest: str | None = None,
        *,
        model: str | None = None,
        version: str | None = None,
        handler: str | None = None,
    ) -> Package:
        """Extract the archive (once per digest, however many ask at once) and read its manifest.

        `model`, `version` and `handler` go before what the manifest says; an archive without a
        manifest needs the first and the last.

        Raises:
            ArchiveInvalid: broken, dangerous, or its manifest or model-config.yaml makes no sense.
        """
        raise NotImplementedError

    async def remove(self, package: Package) -> None:
        """Delete the extracted files of a package that no version uses any more; a bare directory stays."""
        raise NotImplementedError
