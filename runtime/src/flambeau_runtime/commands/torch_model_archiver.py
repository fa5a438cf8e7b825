"""`torch-model-archiver`: the flags of TorchServe's archiver."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from flambeau_runtime.archive.writer import (
    ArchiveFormat,
    CannotArchive,
    Recipe,
    write_archive,
)

EXIT_REFUSED = 1
RUNTIMES = ("python", "python3", "LSP")


def main(arguments: Sequence[str] | None = None) -> None:
    """Make one archive and say where it is; exit 1 when it cannot be made, 2 for wrong flags."""
    given = make_parser().parse_args(arguments)
    try:
        target = write_archive(
            read_recipe(given),
            Path(given.export_path),
            ArchiveFormat(given.archive_format),
            _created_on(),
            given.force,
        )
    except (CannotArchive, OSError) as error:
        sys.stderr.write(f"torch-model-archiver: {error}\n")
        sys.exit(EXIT_REFUSED)
    sys.stdout.write(f"archived {given.model_name} {given.version} as {target}\n")


def read_recipe(given: argparse.Namespace) -> Recipe:
    """Return what the flags ask for."""
    return Recipe(
        model_name=given.model_name,
        version=given.version,
        handler=given.handler,
        serialized_file=given.serialized_file,
        model_file=given.model_file,
        extra_files=given.extra_files,
        requirements_file=given.requirements_file,
        config_file=given.config_file,
        runtime=given.runtime,
    )


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of the archiver's flags."""
    parser = argparse.ArgumentParser(
        prog="torch-model-archiver",
        description="Put a model, its weights and its handler into one archive.",
    )
    add = parser.add_argument
    add("--model-name", required=True, help="the archive's name, and the model's")
    add("-v", "--version", required=True, help="the model's version, for example 1.0")
    add(
        "--handler",
        required=True,
        help="a file with the handler (file.py or file.py:function), or base_handler",
    )
    add("--serialized-file", help="TorchScript model (.pt) or the weights of an eager one")
    add("--model-file", help="the file with the class of an eager model")
    add(
        "--extra-files",
        help="comma-separated files, wildcards and directories, whose content is spread",
    )
    add("--runtime", choices=RUNTIMES, default="python", help="kept in the manifest")
    add("--export-path", default=".", help="where the archive goes; made when missing")
    add(
        "--archive-format",
        choices=[archive_format.value for archive_format in ArchiveFormat],
        default=ArchiveFormat.DEFAULT.value,
        help=".mar compressed (default) or not (zip-store), .tar.gz (tgz), or a directory",
    )
    add("-r", "--requirements-file", help="pip requirements of the model")
    add("-c", "--config-file", help="model-config.yaml")
    add("-f", "--force", action="store_true", help="overwrite an archive that is there")
    return parser


def _created_on() -> datetime:
    """Return now, or what SOURCE_DATE_EPOCH asks for: then equal files give equal archives."""
    epoch = os.environ.get("SOURCE_DATE_EPOCH", "")
    return datetime.fromtimestamp(int(epoch), UTC) if epoch.isdigit() else datetime.now(UTC)


if __name__ == "__main__":
    main()
