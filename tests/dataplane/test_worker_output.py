"""What a worker prints: kept at the end, bounded on the way."""

import logging
import time

import pytest
from hypothesis import given, strategies as st

from flambeau_runtime.serving.worker_output import BURST_LINES, TAIL_BYTES, Tail, WorkerOutput


@pytest.fixture
def lines(caplog):
    caplog.set_level(logging.INFO)
    return lambda: [r.getMessage() for r in caplog.records if r.levelno == logging.INFO]


@given(st.lists(st.binary(max_size=5000)))
def test_the_tail_is_never_longer_than_its_bound(chunks):
    tail = Tail()
    for chunk in chunks:
        tail.feed(chunk)
    assert len(tail.text()) <= TAIL_BYTES


def test_the_tail_begins_with_a_whole_line():
    tail = Tail()
    tail.feed(b"".join(b"line %d\n" % number for number in range(1000)))
    first, *_, last = tail.text().splitlines()
    assert first.startswith("line ")
    assert last == "line 999"


def test_lines_are_joined_across_chunks(lines):
    output = WorkerOutput("W-9000-m_1.0")
    output.feed(b"Traceb", now=1)
    output.feed(b"ack\nValue", now=1)
    output.close()
    assert lines() == ["Traceback", "Value"]


def test_a_line_carries_its_workers_name_as_torchserves_model_log_does(caplog):
    caplog.set_level(logging.INFO)
    WorkerOutput("W-9000-m_1.0").feed(b"hello\n", now=1)
    assert caplog.records[0].worker == "W-9000-m_1.0-stdout"


def test_a_flood_is_cut_and_the_log_says_so(lines, caplog):
    output = WorkerOutput("w")
    for _ in range(100):
        output.feed(b"x\n" * 1000, now=1)
    output.close()
    assert len(lines()) == BURST_LINES
    dropped = [record.lines for record in caplog.records if hasattr(record, "lines")]
    assert dropped == [100_000 - BURST_LINES]


def test_after_a_flood_lines_pass_again_in_time(lines):
    output = WorkerOutput("w")
    output.feed(b"x\n" * 10_000, now=1)
    output.feed(b"later\n", now=2)
    assert lines()[-1] == "later"


def test_a_line_without_an_end_does_not_fill_the_memory(lines):
    output = WorkerOutput("w")
    for _ in range(20):
        output.feed(b"x" * 65_536, now=1)
    assert max(map(len, lines())) <= 8192


def test_a_hundred_megabytes_cost_less_than_a_second_of_the_front():
    output = WorkerOutput("w")
    chunk = b"a line of a usual length, with some words in it\n" * 1365
    began = time.process_time()
    for _ in range(1600):
        output.feed(chunk, now=1)
    assert time.process_time() - began < 1
