"""Write the page that says how this runtime stands to TorchServe: `make compat-table`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from tests.compat.inventory.row import Importance, Row, Section, State
from tests.compat.inventory.sections import ROWS, SECTIONS

PAGE = "docs/torchserve-compatibility.md"

INTRODUCTION = """\
# Compatibility with TorchServe 0.12

What TorchServe 0.12.0 does, row by row, and how this runtime stands to it. Generated from
`tests/compat/inventory/` by `make compat-table`. Tests in `tests/compat/` hold the rows; those of
the rows that are *same* are asked of TorchServe itself, too, by `make compat-original`. How to
move is told by [migrating.md](migrating.md).

- **same**: clients see the same.
- **different**: on purpose, for the reason given.
- **missing**: not there.

The rows say what *TorchServe* does. **must**: a migration breaks without it; **should**: commonly
used; **rare**. Rows with an asterisk were read in its source; all others were seen by running it.
"""


def page() -> str:
    """Return the page's text."""
    sections = "".join(_section(section) for section in SECTIONS)
    return f"{INTRODUCTION}\n{_table(_counts())}\n{sections}"


def _counts() -> Iterator[tuple[str, ...]]:
    used = [state for state in State if any(row.state is state for row in ROWS.values())]
    yield ("", *used)
    for importance in Importance:
        rows = [row for row in ROWS.values() if row.importance is importance]
        counts = (str(sum(row.state is state for row in rows)) for state in used)
        yield (importance, *counts)


def _section(section: Section) -> str:
    lines = [("TorchServe", "importance", "here", "")]
    lines += [_cells(row) for row in section.rows]
    return f"\n## {section.number} {section.title}\n\n{_table(lines)}"


def _cells(row: Row) -> tuple[str, ...]:
    text = row.text.replace("|", "\\|") + ("" if row.mark == "V" else " \\*")
    return text, row.importance, row.state, row.why.replace("|", "\\|")


def _table(lines: Iterable[tuple[str, ...]]) -> str:
    head, *rest = lines
    rows = [head, ("---",) * len(head), *rest]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in rows)


if __name__ == "__main__":
    (Path(__file__).resolve().parents[2] / PAGE).write_text(page())
