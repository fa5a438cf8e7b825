"""Log files that begin anew every day and when they are long; the last few are kept."""

from __future__ import annotations

import gzip
import logging
import threading
from datetime import datetime

import pytest

from flambeau_runtime import rolling_file
from flambeau_runtime.rolling_file import RollingFile

NOON = datetime(2026, 11, 25, 12).astimezone().timestamp()
DAY_S = 86_400.0


@pytest.fixture
def log(tmp_path):
    handler = RollingFile(tmp_path / "ts_log.log")

    def write(line, at=NOON):
        handler.handle(logging.makeLogRecord({"msg": line, "created": at}))

    yield write
    handler.close()


def compressed(folder):
    """Wait until what was rolled away is compressed, and return the names."""
    for thread in threading.enumerate():
        if thread.name.endswith("(_compress)"):
            thread.join(10)
    return sorted(path.name for path in folder.iterdir())


def test_the_first_line_of_a_day_begins_a_new_file(tmp_path, log):
    log("yesterday")
    log("today", NOON + DAY_S)
    assert compressed(tmp_path) == ["ts_log.25-Nov.log.gz", "ts_log.log"]
    packed = (tmp_path / "ts_log.25-Nov.log.gz").read_bytes()
    assert gzip.decompress(packed) == b"yesterday\n"
    assert (tmp_path / "ts_log.log").read_text() == "today\n"


def test_a_file_that_has_grown_too_long_is_rolled_away_and_loses_nothing(
    tmp_path, log, monkeypatch
):
    monkeypatch.setattr(rolling_file, "FILE_BYTES", 10)
    for number in range(3):
        log(f"line number {number}")
    assert compressed(tmp_path) == ["ts_log.25-Nov.2.log.gz", "ts_log.25-Nov.log.gz", "ts_log.log"]
    assert (tmp_path / "ts_log.log").read_text() == "line number 2\n"


def test_the_last_five_are_kept(tmp_path, log):
    for day in range(9):
        log(f"day {day}", NOON + day * DAY_S)
        compressed(tmp_path)
    kept = [f"ts_log.{date}.log.gz" for date in ("28-Nov", "29-Nov", "30-Nov", "01-Dec", "02-Dec")]
    assert compressed(tmp_path) == sorted([*kept, "ts_log.log"])


def test_a_file_of_an_earlier_start_is_gone_on_with(tmp_path, log):
    (tmp_path / "ts_log.log").write_text("before\n")
    now = datetime.now().astimezone().timestamp()
    log("after", now)
    assert (tmp_path / "ts_log.log").read_text() == "before\nafter\n"


def test_other_logs_of_the_folder_are_left_alone(tmp_path, log):
    for number in range(8):
        (tmp_path / f"access_log.0{number}-Nov.log.gz").touch()
    log("yesterday")
    log("today", NOON + DAY_S)
    assert len(compressed(tmp_path)) == 10
