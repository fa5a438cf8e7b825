"""The archive of an image, as the OCI's image layout in a tar file."""

import hashlib
import io
import json
import tarfile
from pathlib import Path


def pack(folder: Path, name: str, archive: Path) -> None:
    """Write the archive of an image that lies in a folder.

    buildah writes such archives too, and compresses every layer whenever it does: most of a minute
    for the image with torch, each time that a line of ours changed.

    Args:
        folder: as `buildah push … dir:` writes it: a manifest, and blobs named after their digests.
        name: the image's.
        archive: the file to write.
    """
    manifest = (folder / "manifest.json").read_bytes()
    digest = hashlib.sha256(manifest).hexdigest()
    parts = json.loads(manifest)
    described = {
        "mediaType": parts["mediaType"],
        "digest": f"sha256:{digest}",
        "size": len(manifest),
        # containerd goes by the first, everything else by the second.
        "annotations": {
            "io.containerd.image.name": name,
            "org.opencontainers.image.ref.name": name,
        },
    }
    blobs = {part["digest"].removeprefix("sha256:") for part in [parts["config"], *parts["layers"]]}
    with tarfile.open(archive, "w") as tar:
        _add(tar, "oci-layout", json.dumps({"imageLayoutVersion": "1.0.0"}).encode())
        _add(tar, "index.json", json.dumps({"schemaVersion": 2, "manifests": [described]}).encode())
        _add(tar, f"blobs/sha256/{digest}", manifest)
        for blob in sorted(blobs):
            tar.add(folder / blob, f"blobs/sha256/{blob}")


def _add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode = len(content), 0o644
    tar.addfile(entry, io.BytesIO(content))
