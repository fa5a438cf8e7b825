"""`torch-model-archiver`: the flags of TorchServe's archiver."""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from flambeau_runtime.archive.writer import (
    DEFAULT_HANDLERS,
    ArchiveFormat,
    CannotArchive,
    Recipe,
    write_archive,
)

EXIT_REFUSED = 1
RUNTIMES = ("python", "python3", "LSP")
HANDLERS = sorted(DEFAULT_HANDLERS)
FORMATS = ("tgz", "no-archive", "zip-store", "default")

log = logging.getLogger(__name__)


def main(arguments: Sequence[str] | None = None) -> None:
    """Make one archive; exit 1 when it cannot be made, 2 for wrong flags."""
    logging.basicConfig(format="%(levelname)s - %(message)s")
    given = make_parser().parse_args(arguments)
    try:
        write_archive(
            read_recipe(given),
            Path(given.export_path),
            ArchiveFormat(given.archive_format),
            _created_on(),
            given.force,
        )
    except (CannotArchive, OSError) as error:
        log.error("%s", error)  # noqa: TRY400  a sentence tells more than our own stack
        sys.exit(EXIT_REFUSED)


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
    add("--serialized-file", help="TorchScript model (.pt) or the weights of an eager one")
    add("--model-file", help="the file with the class of an eager model")
    add(
        "--handler",
        required=True,
        help=f"a file with the handler (file.py or file.py:function), or {', '.join(HANDLERS)}",
    )
    add(
        "--extra-files",
        help="comma-separated files, wildcards and directories, whose content is spread",
    )
    add("--runtime", choices=RUNTIMES, default="python", help="kept in the manifest")
    add("--export-path", default=str(Path.cwd()), help="where it goes; made when missing")
    add(
        "--archive-format",
        choices=FORMATS,
        default=ArchiveFormat.DEFAULT.value,
        help=".mar compressed (default) or not (zip-store), .tar.gz (tgz), or a directory",
    )
    add("-f", "--force", action="store_true", help="overwrite an archive that is there")
    add("-v", "--version", required=True, help="the model's version, for example 1.0")
    add("-r", "--requirements-file", help="pip requirements of the model")
    add("-c", "--config-file", help="model-config.yaml")
    return parser


def _created_on() -> datetime:
    """Return now, by the local clock, or what SOURCE_DATE_EPOCH asks for.

    With that, equal files give equal archives.
    """
    epoch = os.environ.get("SOURCE_DATE_EPOCH", "")
    if epoch.isdigit():
        return datetime.fromtimestamp(int(epoch), UTC)
    return datetime.now(UTC).astimezone()


if __name__ == "__main__":
    main()
