"""Archives for tests: well-made ones, and ones that must not be opened."""

import io
import json
import tarfile
import zipfile
from pathlib import Path

HANDLER = """
def handle(data, context):
    if data is None:
        return None
    return [row["body"] for row in data]
"""
MANIFEST = {"model": {"modelName": "echo", "modelVersion": "1.0", "handler": "handler.py"}}


def manifest(**model):
    return {"model": {**MANIFEST["model"], **model}}


def files(content=MANIFEST, **more):
    """Return the files of an archive; keyword `a__b_txt` becomes `a/b.txt`."""
    named = {
        "/".join(name.split("__")).replace("_txt", ".txt"): text for name, text in more.items()
    }
    return {"handler.py": HANDLER, "MAR-INF/MANIFEST.json": json.dumps(content), **named}


def make_mar(path: Path, entries=None, compression=zipfile.ZIP_DEFLATED) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in (files() if entries is None else entries).items():
            info = name if isinstance(name, zipfile.ZipInfo) else zipfile.ZipInfo(name)
            info.compress_type = compression
            archive.writestr(info, content)
    return path


def make_tgz(path: Path, entries=None, top="echo/") -> Path:
    with tarfile.open(path, "w:gz") as archive:
        for name, content in (files() if entries is None else entries).items():
            info = name if isinstance(name, tarfile.TarInfo) else tarfile.TarInfo(f"{top}{name}")
            packed = content.encode() if isinstance(content, str) else content
            if info.isreg():
                info.size = len(packed)
            archive.addfile(info, io.BytesIO(packed))
    return path


def make_directory(path: Path, entries=None) -> Path:
    for name, content in (files() if entries is None else entries).items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_text(content)
    return path


def zip_link(name: str) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name)
    info.external_attr = 0o120777 << 16
    return info


def tar_member(name: str, kind: bytes, target: str = "/etc/passwd") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type = kind
    info.linkname = target
    return info
