"""Files and whole repositories of the Hugging Face hub: its library says what there is and where.

`hf://ORG/REPO[@REVISION]/PATH` is one archive, `hf://ORG/REPO[@REVISION]` a directory package. A
revision is a branch, a tag or a commit; what is fetched is one commit, and never a mix of two.
HF_ENDPOINT names another hub, HF_TOKEN opens what is gated.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from threading import Event
from typing import Any
from urllib.parse import unquote

from flambeau_runtime.archive.download import Download
from flambeau_runtime.archive.fetch.extras import need
from flambeau_runtime.archive.fetch.order import Order
from flambeau_runtime.archive.fetch.ranged import fault_of
from flambeau_runtime.archive.partial import LARGEST, OnBytes
from flambeau_runtime.archive.sources import Remote
from flambeau_runtime.errors import ArchiveInvalid, DigestMismatch, RuntimeFault, SourceNotFound

CHUNK = 1024**2
MOST_FILES = 10_000
ASK_S = 30.0


@dataclass(frozen=True, slots=True)
class Address:
    """What an address names; `path` is empty for the whole repository."""

    repo: str
    revision: str | None
    path: str


def read_address(uri: str) -> Address:
    """Read hf://ORG/REPO[@REVISION][/PATH].

    Raises:
        SourceNotFound: it names no repository.
    """
    organisation, _, rest = uri.partition("://")[2].partition("/")
    repo, _, path = rest.partition("/")
    name, _, revision = repo.partition("@")
    if not organisation or not name or repo.endswith("@"):
        raise SourceNotFound(
            f"Model not found at: {uri} (write hf://ORG/REPO[@REVISION] or "
            "hf://ORG/REPO[@REVISION]/PATH)"
        )
    return Address(f"{organisation}/{name}", unquote(revision) or None, path.strip("/"))


@dataclass(slots=True)
class HubDownload:
    """An archive, or all files of a repository, on their way."""

    order: Order
    on_bytes: OnBytes
    _arrived: int = 0
    _total: int | None = field(default=None)

    def run(self) -> Path:
        """Bring it here; return the archive or the directory.

        Raises:
            SourceUnavailable: it did not come; SourceNotFound: it never will.
            ArchiveInvalid: a file would lie outside the directory.
        """
        address = read_address(self.order.uri)
        try:
            repo = _Repo(address, self.order.shown)
            if address.path:
                return self._archive(repo)
            return self._tree(repo)
        except RuntimeFault:
            raise
        except Exception as error:
            raise fault_of(error, self.order.shown) from error

    def _archive(self, repo: _Repo) -> Path:
        (facts,) = repo.files([repo.address.path])
        known = _sha256(facts)
        if known and self.order.digest and known != self.order.digest:
            raise DigestMismatch(self.order.shown, self.order.digest, known)
        self._total = facts.size
        target = Path(self.order.target)
        target.parent.mkdir(parents=True, exist_ok=True)
        self._bring(repo, facts, target)
        return target

    def _tree(self, repo: _Repo) -> Path:
        if self.order.digest is not None:
            raise ArchiveInvalid(
                f"{self.order.shown} is a directory, which has no digest: leave the digest out, "
                "and name a commit: hf://ORG/REPO@COMMIT"
            )
        name = hashlib.sha256(f"{repo.address.repo}@{repo.commit}".encode()).hexdigest()
        whole = Path(self.order.trees) / name
        if whole.is_dir():
            return whole
        files = repo.files(None)
        self._total = sum(facts.size for facts in files)
        if len(files) > MOST_FILES or self._total > LARGEST:
            raise ArchiveInvalid(
                f"{self.order.shown} has {len(files)} files and {self._total} bytes: at most "
                f"{MOST_FILES} and {LARGEST} may be"
            )
        work = Path(f"{self.order.target}.tree") / name
        for facts in files:
            self._bring(repo, facts, work / _inside(facts.path, self.order.shown))
        whole.parent.mkdir(parents=True, exist_ok=True)
        try:
            work.rename(whole)
        except OSError:
            if not whole.is_dir():  # another process was quicker: its files are as good
                raise
        shutil.rmtree(work.parent, ignore_errors=True)
        return whole

    def _bring(self, repo: _Repo, facts: Any, target: Path) -> None:  # noqa: ANN401  the hub's RepoFile
        if not target.exists():
            Download(
                repo.remote(facts.path),
                target,
                self._tell,
                Event(),
                headers=lambda: repo.headers,
                content=f"{repo.commit} {facts.blob_id}",
                pauses_s=self.order.pauses_s,
            ).run()
            _check(facts, target, self.order.shown)
        self._arrived += facts.size
        self.on_bytes(self._arrived, self._total)

    def _tell(self, have: int, _total: int | None) -> None:
        self.on_bytes(self._arrived + have, self._total)


class _Repo:
    """One commit of a repository."""

    def __init__(self, address: Address, shown: str) -> None:
        hub = need("huggingface_hub", "hf")
        self.address = address
        self._shown = shown
        self._hub = hub
        self._token = os.environ.get("HF_TOKEN") or os.environ.get("FLAMBEAU_TOKEN") or False
        self._api = hub.HfApi(token=self._token)
        info = self._api.model_info(address.repo, revision=address.revision, timeout=ASK_S)
        self.commit: str = info.sha

    @property
    def headers(self) -> Mapping[str, str]:
        """Return what opens its files."""
        return {"Authorization": f"Bearer {self._token}"} if self._token else {}

    def files(self, paths: list[str] | None) -> list[Any]:
        """Return the facts of these files, of all without."""
        if paths is None:
            found = self._api.list_repo_tree(
                self.address.repo, recursive=True, revision=self.commit
            )
        else:
            found = self._api.get_paths_info(self.address.repo, paths, revision=self.commit)
        files = [each for each in found if hasattr(each, "size")]
        if not files:
            raise SourceNotFound(
                f"Failed to download archive from: {self._shown}: 404 Not Found (no file of that "
                f"name in commit {self.commit})"
            )
        return files

    def remote(self, path: str) -> Remote:
        """Return where a file is."""
        url = self._hub.hf_hub_url(self.address.repo, path, revision=self.commit)
        return Remote(url, self._shown)


def _inside(path: str, shown: str) -> Path:
    """Return a path of the hub as one below a folder of ours.

    Raises:
        ArchiveInvalid: it would lead out of it.
    """
    pure = PurePosixPath(path)
    if pure.is_absolute() or ".." in pure.parts or "\\" in path or "\0" in path:
        raise ArchiveInvalid(f"{shown}: {path!r} points outside the repository")
    return Path(*pure.parts)


def _sha256(facts: Any) -> str | None:  # noqa: ANN401  the hub's RepoFile
    return f"sha256:{facts.lfs.sha256}" if facts.lfs is not None else None


def _check(facts: Any, path: Path, shown: str) -> None:  # noqa: ANN401  the hub's RepoFile
    """Compare a large file with what the hub says of it, a small one with its git object.

    Raises:
        DigestMismatch: something else came.
    """
    known = _sha256(facts)
    with path.open("rb") as file:
        if known is not None:
            found = f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"
        else:
            digest = hashlib.sha1(f"blob {path.stat().st_size}\0".encode(), usedforsecurity=False)
            while chunk := file.read(CHUNK):
                digest.update(chunk)
            known, found = facts.blob_id, digest.hexdigest()
    if found != known:
        path.unlink()
        raise DigestMismatch(f"{shown} {facts.path}", known, found)
