"""Write the modules of the gRPC messages from their .proto files: `make protos`.

Each becomes a module that hands its descriptor to our own pool, and a .pyi that protoc writes.
"""

from __future__ import annotations

import sys
import tempfile
from importlib import resources
from pathlib import Path

from google.protobuf import descriptor_pb2
from grpc_tools import protoc

SOURCES = Path(__file__).parent / "src"
PROTOS = Path("flambeau_runtime/api/grpc/protos")

MODULE = '''\
"""Messages of {name}; `make protos` writes this module."""

from flambeau_runtime.api.grpc.protos import pool
{imports}
globals().update(
    pool.add(
        "{path}",
{literal}
    )
)
'''
IMPORT = (
    "from flambeau_runtime.api.grpc.protos import {module}  # noqa: F401  its names come first\n"
)
LINE_BYTES = 32


def write(target: Path) -> list[Path]:
    """Write all modules below `target`, the folder that the package is in; return their paths."""
    return [
        path
        for proto in sorted((SOURCES / PROTOS).glob("*.proto"))
        for path in _write(proto, target)
    ]


def _write(proto: Path, target: Path) -> tuple[Path, Path]:
    with tempfile.TemporaryDirectory() as folder:
        described = Path(folder) / "descriptors"
        arguments = [
            f"-I{SOURCES}",
            f"-I{resources.files('grpc_tools') / '_proto'}",
            f"--descriptor_set_out={described}",
            f"--pyi_out={target}",
            str(proto),
        ]
        if protoc.main(["protoc", *arguments]) != 0:
            raise SystemExit(f"{proto}: protoc refused it")
        files = descriptor_pb2.FileDescriptorSet.FromString(described.read_bytes())
    module = target / PROTOS / f"{proto.stem}_pb2.py"
    module.write_text(_module(files.file[0]))
    return module, module.with_suffix(".pyi")


def _module(file: descriptor_pb2.FileDescriptorProto) -> str:
    needed = [Path(name) for name in file.dependency if name.startswith(str(PROTOS))]
    serialized = file.SerializeToString(deterministic=True)
    pieces = [serialized[i : i + LINE_BYTES] for i in range(0, len(serialized), LINE_BYTES)]
    return MODULE.format(
        name=Path(file.name).name,
        path=file.name,
        imports="".join(IMPORT.format(module=f"{path.stem}_pb2") for path in needed),
        literal="\n".join(f"        {piece!r}" for piece in pieces),
    )


if __name__ == "__main__":
    sys.stdout.write("".join(f"{path}\n" for path in write(SOURCES)))
