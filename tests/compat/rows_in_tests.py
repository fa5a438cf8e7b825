"""Which rows of the inventory the tests name: read from their text, whatever is run."""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent


@dataclass(frozen=True, slots=True)
class Named:
    """One `pytest.mark.row(...)` in a test file."""

    row: str
    only_ours: bool
    place: str


def rows_in_tests() -> dict[str, list[Named]]:
    """Return every marker of every file `test_s*.py`, by row."""
    found: dict[str, list[Named]] = defaultdict(list)
    for path in sorted(HERE.glob("test_s[0-9]*.py")):
        for named in _markers(path):
            found[named.row].append(named)
    return found


def _markers(path: Path) -> Iterator[Named]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "pytest.mark.row":
            place = f"{path.name}:{node.lineno}"
            only = any(it.arg == "only" for it in node.keywords)
            for argument in node.args:
                yield Named(str(ast.literal_eval(argument)), only, place)
