"""What a requirements.txt says beside the packages it names, read without an installer."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_LOCATIONS = ("--find-links", "-f")
_INDEX = ("--index-url", "-i", "--extra-index-url", "--no-index", "--trusted-host", "--pre")
_BUILD = ("--no-binary", "--only-binary", "--prefer-binary")
_INCLUDES = ("--requirement", "-r")
_PLAIN = re.compile(r"[A-Za-z0-9][^/@\\]*")
DEEPEST = 20


@dataclass(frozen=True, slots=True)
class Requirements:
    """A requirements file and those that it includes.

    Args:
        text: all lines, as they are: what it is known by.
        options: where to look for packages, one line each, with absolute paths.
        is_hashed: every package is pinned with its hash, which the installer has to compare.
        is_plain: it names packages only, no files beside it: equal texts mean equal packages.
    """

    text: str
    options: tuple[str, ...]
    is_hashed: bool
    is_plain: bool


def read_requirements(file: Path) -> Requirements:
    """Read a requirements file.

    Raises:
        OSError: it or an included one cannot be read.
        UnicodeDecodeError: it is no text.
    """
    lines = list(_lines(file, DEEPEST))
    options = tuple(_option(folder, line) for folder, line in lines if _names_a_place(line))
    return Requirements(
        text="\n".join(line for _, line in lines),
        options=options,
        is_hashed=any("--hash" in line for _, line in lines),
        is_plain=all(_PLAIN.fullmatch(line) for _, line in lines),
    )


def _lines(file: Path, room: int) -> Iterator[tuple[Path, str]]:
    """Yield every line with the folder of its file; an included file's lines in its place."""
    for line in file.read_text(encoding="utf-8-sig").replace("\\\n", " ").splitlines():
        said = re.sub(r"(^|\s)#.*$", "", line).strip()
        if not said:
            continue
        flag, value = _split(said)
        included = file.parent / value
        if flag in _INCLUDES and room and included.is_file():
            yield from _lines(included, room - 1)
        else:
            yield file.parent, said


def _split(line: str) -> tuple[str, str]:
    flag, _, value = line.replace("=", " ", 1).partition(" ")
    return flag, value.strip().strip("\"'")


def _names_a_place(line: str) -> bool:
    return _split(line)[0] in (*_LOCATIONS, *_INDEX, *_BUILD)


def _option(folder: Path, line: str) -> str:
    flag, value = _split(line)
    if flag in _LOCATIONS and (folder / value).exists():
        return f"{flag} {(folder / value).resolve()}"
    return line
