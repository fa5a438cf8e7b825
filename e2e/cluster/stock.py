"""The image that every cluster has: one static program, as pods' sandbox, server and client."""

import hashlib
import io
import json
import platform
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path

PAUSE = "localhost/flambeau-pause:stock"
STOCK = "localhost/flambeau-stock:stock"
PROGRAM = "stock"
# What its containers may do: admitted by Pod Security's level "restricted".
RESTRICTED = {
    "allowPrivilegeEscalation": False,
    "readOnlyRootFilesystem": True,
    "runAsNonRoot": True,
    "capabilities": {"drop": ["ALL"]},
    "seccompProfile": {"type": "RuntimeDefault"},
}

ENTRYPOINTS = {PAUSE: [f"/{PROGRAM}", "pause"], STOCK: [f"/{PROGRAM}"]}


def write_archive(
    binary: Path, archive: Path, entrypoints: Mapping[str, Sequence[str]] = ENTRYPOINTS
) -> None:
    """Write an OCI archive with images of the program, by hand: no registry, no builder.

    Args:
        binary: the program.
        archive: the file to write.
        entrypoints: what each image starts, by the image's name.
    """
    layer = io.BytesIO()
    with tarfile.open(fileobj=layer, mode="w") as tar:
        entry = tarfile.TarInfo(PROGRAM)
        entry.size, entry.mode = binary.stat().st_size, 0o755
        with binary.open("rb") as program:
            tar.addfile(entry, program)
    with tarfile.open(archive, "w") as tar:
        _Layout(tar).write(layer.getvalue(), entrypoints)


class _Layout:
    """An OCI image layout that goes into a tar file."""

    def __init__(self, tar: tarfile.TarFile) -> None:
        self._tar = tar

    def write(self, layer: bytes, entrypoints: Mapping[str, Sequence[str]]) -> None:
        """Write images that share a layer and differ in what they start."""
        filled = self._blob(layer, "application/vnd.oci.image.layer.v1.tar")
        manifests = [
            {**self._image(filled, entrypoint), "annotations": {"io.containerd.image.name": name}}
            for name, entrypoint in entrypoints.items()
        ]
        self._add("oci-layout", json.dumps({"imageLayoutVersion": "1.0.0"}).encode())
        self._add("index.json", json.dumps({"schemaVersion": 2, "manifests": manifests}).encode())

    def _image(self, layer: dict[str, object], entrypoint: Sequence[str]) -> dict[str, object]:
        config = {
            "architecture": _architecture(),
            "os": "linux",
            "config": {"Entrypoint": entrypoint, "User": "1000:1000"},
            "rootfs": {"type": "layers", "diff_ids": [layer["digest"]]},
        }
        kind = "application/vnd.oci.image"
        manifest = {
            "schemaVersion": 2,
            "mediaType": f"{kind}.manifest.v1+json",
            "config": self._blob(json.dumps(config).encode(), f"{kind}.config.v1+json"),
            "layers": [layer],
        }
        return self._blob(json.dumps(manifest).encode(), f"{kind}.manifest.v1+json")

    def _blob(self, content: bytes, kind: str) -> dict[str, object]:
        digest = hashlib.sha256(content).hexdigest()
        self._add(f"blobs/sha256/{digest}", content)
        return {"mediaType": kind, "digest": f"sha256:{digest}", "size": len(content)}

    def _add(self, name: str, content: bytes) -> None:
        entry = tarfile.TarInfo(name)
        entry.size, entry.mode = len(content), 0o644
        self._tar.addfile(entry, io.BytesIO(content))


def _architecture() -> str:
    return {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
