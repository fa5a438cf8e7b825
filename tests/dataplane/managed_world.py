"""A managed runtime over fakes: the state API, the fence, the boot file."""

from __future__ import annotations

import os
from contextlib import asynccontextmanager
from pathlib import Path

import orjson
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from flambeau_runtime.api.authorisation import make_state_gate
from flambeau_runtime.api.state import make_state_app
from flambeau_runtime.serving.accepted import AcceptedDocument
from flambeau_runtime.serving.catalogue import Catalogue
from flambeau_runtime.settings import Limits, Managed, Settings
from tests.dataplane.asgi_client import Answered, call
from tests.dataplane.fake_fleet import World
from tests.dataplane.signing import bearer, public_text

KEY = Ed25519PrivateKey.generate()
UID = "uid-1"


def entry(number: str, **changes) -> dict:
    """One version of a document as it is written."""
    return {
        "version": number,
        "source": {"uri": f"file:///models/vision-{number}.mar", "digest": None},
        "workers": {"min": 1},
        "batching": {"maxSize": 8, "maxDelaySeconds": 0.05},
        "timeouts": {"responseSeconds": 120, "startupSeconds": 300},
        "env": {},
        "warmup": [],
        **changes,
    }


def written(sequence: int = 1, *entries: dict, default: str = "1.0", **changes) -> dict:
    """A document as it is written."""
    versions = list(entries or [entry("1.0")])
    return {
        "owner": {"namespace": "team-a", "name": "vision", "uid": UID},
        "sequence": sequence,
        "generation": 1,
        "models": [{"name": "vision", "required": True, "default": default, "versions": versions}],
        **changes,
    }


class ManagedWorld(World):
    """One start of a managed runtime in a directory."""

    def __init__(self, directory: Path) -> None:
        super().__init__()
        self.directory = directory
        self.boot_file = directory / "boot.json"
        self.catalogue = self.converger.catalogue = Catalogue(waits_for_document=True)
        managed = Managed(self.boot_file, UID)
        self.accepted = AcceptedDocument(
            managed, directory, Limits(), self.converger, watch_every_s=0.01
        )
        settings = Settings(state_dir=directory, managed=managed)
        gate = make_state_gate(settings, None, self.accepted)
        self.app = make_state_app(self.catalogue, gate, self.accepted)

    async def put(self, document: dict | bytes) -> Answered:
        body = document if isinstance(document, bytes) else orjson.dumps(document)
        return await self.call("PUT", "/state", body)

    async def get(self, query: str = "") -> dict:
        answered = await self.call("GET", f"/state{query}")
        assert answered.status == 200
        return answered.json()

    async def call(self, method: str, target: str, body: bytes = b"", **more) -> Answered:
        headers = {"Authorization": bearer(KEY, body)}
        return await call(self.app, method, target, body, headers, "10.0.0.7", **more)


def write_boot_file(directory: Path, document: object, *keys: Ed25519PrivateKey) -> None:
    """Replace the boot file as a mounted ConfigMap does: a symlink is renamed over it."""
    content = {"document": document, "publicKeys": [public_text(key) for key in keys or (KEY,)]}
    place_boot_file(directory, orjson.dumps(content))


def place_boot_file(directory: Path, content: bytes) -> None:
    generation = len(list(directory.glob("data-*")))
    (directory / f"data-{generation}").write_bytes(content)
    link = directory / "link.new"
    link.symlink_to(f"data-{generation}")
    os.replace(link, directory / "boot.json")  # noqa: PTH105  the rename of a mount


@asynccontextmanager
async def started(directory: Path):
    """A start of the runtime in that directory; without a boot file it gets one with keys alone."""
    if not (directory / "boot.json").exists():
        write_boot_file(directory, None)
    world = ManagedWorld(directory)
    async with world.converger, world.accepted:
        yield world
