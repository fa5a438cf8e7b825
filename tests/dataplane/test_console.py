"""The console: shown what fits, and never waited for."""

from __future__ import annotations

import fcntl
import logging
import os
import time

import pytest

from flambeau_runtime.console import Console


@pytest.fixture
def pipe():
    reading, writing = os.pipe()
    fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, 16384)
    ends = {"reading": reading, "writing": writing}
    yield ends
    for end in ends.values():
        os.close(end)


def show(console, line):
    console.handle(logging.makeLogRecord({"msg": line}))


def test_lines_are_shown_as_they_come(pipe):
    console = Console(pipe["writing"])
    show(console, "a line")
    show(console, "café \udc80")
    assert os.read(pipe["reading"], 100) == "a line\ncafé \\udc80\n".encode()


def test_a_reader_that_has_stopped_is_waited_for_once_and_not_for_every_line(pipe):
    console = Console(pipe["writing"])
    began = time.monotonic()
    for _ in range(200):
        show(console, "x" * 1000)
    assert time.monotonic() - began < 10


def test_a_reader_that_comes_back_sees_whole_lines_again(pipe):
    console = Console(pipe["writing"])
    for _ in range(30):
        show(console, "x" * 1000)
    os.read(pipe["reading"], 65536)
    show(console, "back")
    assert os.read(pipe["reading"], 65536) == b"\nback\n"


def test_a_console_that_is_gone_is_no_error(pipe, capsys):
    console = Console(pipe["writing"])
    os.close(pipe.pop("reading"))
    show(console, "a line")
    show(console, "another")
    assert capsys.readouterr().err == ""


def test_whoever_shares_the_descriptor_finds_it_blocking_as_before(pipe):
    Console(pipe["writing"])
    assert os.get_blocking(pipe["writing"])
