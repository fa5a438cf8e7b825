"""The inventory and its tests agree, and the page that users read is what both say."""

from __future__ import annotations

from pathlib import Path

from tests.compat.inventory.remaining import MISSING_ON_PURPOSE
from tests.compat.inventory.row import DIFFERENT, MISSING, OPEN, RARE, SAME, Row, V
from tests.compat.inventory.sections import ROWS, SECTIONS
from tests.compat.rows_in_tests import rows_in_tests
from tests.compat.table import PAGE, page

ROOT = Path(__file__).resolve().parents[2]
NAMED = rows_in_tests()


def _matters(row: Row) -> bool:
    return row.importance is not RARE and row.mark is V


def test_no_row_has_the_id_of_another_and_each_says_its_section():
    rows = [(section.number, row) for section in SECTIONS for row in section.rows]
    assert len(rows) == len(ROWS)
    assert not [row.id for number, row in rows if not row.id.startswith(f"{number.split('.')[0]}")]
    assert not [
        row.id for number, row in rows if "." in number and not row.id.startswith(f"{number}-")
    ]


def test_tests_name_rows_that_exist():
    assert not [named for row, found in NAMED.items() if row not in ROWS for named in found]


def test_every_behaviour_that_matters_and_is_there_has_a_test():
    there = [row.id for row in ROWS.values() if _matters(row) and row.state in (SAME, DIFFERENT)]
    assert not [row for row in there if row not in NAMED]


def test_what_is_the_same_is_asked_of_both():
    asked = [row for row, found in NAMED.items() if not all(it.only_ours for it in found)]
    same = [row.id for row in ROWS.values() if row.state is SAME and row.id in NAMED]
    assert not [row for row in same if row not in asked]


def test_what_differs_is_asked_of_ours_only_and_has_a_reason():
    different = [row for row in ROWS.values() if row.state is DIFFERENT]
    assert not [row.id for row in different if not row.why]
    assert not [
        named for row in different for named in NAMED.get(row.id, ()) if not named.only_ours
    ]


def test_what_has_a_test_is_neither_open_nor_missing():
    assert not [row for row in NAMED if row in ROWS and ROWS[row].state in (OPEN, MISSING)]


def test_only_what_is_named_is_missing():
    missing = {row.id for row in ROWS.values() if row.state is MISSING and _matters(row)}
    assert missing <= MISSING_ON_PURPOSE
    assert set(ROWS) >= MISSING_ON_PURPOSE
    assert not [row for row in MISSING_ON_PURPOSE if ROWS[row].state in (SAME, DIFFERENT)]


def test_every_row_has_been_decided():
    assert not [row.id for row in ROWS.values() if row.state is OPEN]


def test_the_page_of_compatibility_is_true():
    assert (ROOT / PAGE).read_text() == page(), "run: make compat-table"
