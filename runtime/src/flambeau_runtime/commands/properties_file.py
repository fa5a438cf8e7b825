"""The text format of Java's property files, as far as anybody writes it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

_ESCAPES = {"t": "\t", "n": "\n", "r": "\r", "f": "\f"}
_ESCAPE = re.compile(r"\\(u[0-9a-fA-F]{4}|.)", re.DOTALL)
_KEY = re.compile(r"(?:[^\\=:\s]|\\.)+")
_SEPARATOR = re.compile(r"\s*[=:]?\s*")


@dataclass(frozen=True, slots=True)
class Entry:
    """One key and its value, and the line (from 1) where it begins."""

    key: str
    value: str
    line: int


def parse(text: str) -> tuple[Entry, ...]:
    """Return the entries of a property file in their order; a key may come twice.

    `key=value`, `key: value` and `key value`; comments begin with # or !; a line that ends in an
    odd number of backslashes goes on in the next one.
    """
    return tuple(_entry(line, number) for number, line in _logical_lines(text))


def _logical_lines(text: str) -> Iterator[tuple[int, str]]:
    gathered, begins = "", 0
    for number, raw in enumerate(text.lstrip("\ufeff").splitlines(), start=1):
        line = raw.lstrip()
        if not gathered and (not line or line[0] in "#!"):
            continue
        begins = begins if gathered else number
        gathered += line
        if _goes_on(gathered):
            gathered = gathered[:-1]
            continue
        yield begins, gathered
        gathered = ""
    if gathered:
        yield begins, gathered


def _goes_on(line: str) -> bool:
    return (len(line) - len(line.rstrip("\\"))) % 2 == 1


def _entry(line: str, number: int) -> Entry:
    match = _KEY.match(line)
    key_end = match.end() if match else 0
    separator = _SEPARATOR.match(line, key_end)
    value = line[separator.end() if separator else key_end :]
    return Entry(_unescape(line[:key_end]), _unescape(value).strip(), number)


def _unescape(text: str) -> str:
    return _ESCAPE.sub(_meaning, text)


def _meaning(match: re.Match[str]) -> str:
    escaped = match.group(1)
    if len(escaped) > 1:
        return chr(int(escaped[1:], 16))
    return _ESCAPES.get(escaped, escaped)
