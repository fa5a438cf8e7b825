"""Who may do what only one may: told by files alone, whoever sleeps, dies or comes back."""

import os
import signal
import subprocess
import sys
from dataclasses import replace

import pytest

from flambeau_runtime.archive.lease import SILENT_S, Lease
from flambeau_runtime.archive.owner import Owner
from flambeau_runtime.archive.partial import Partial, inherit


class Clock:
    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


ELSEWHERE = "another1"


@pytest.fixture
def path(tmp_path):
    return tmp_path / "x.lease"


def of_another_machine(path):
    return Lease(path, replace(Owner.me(), machine=ELSEWHERE))


def test_one_has_it_and_the_next_when_it_is_given_back(path):
    first, second = Lease(path, Owner.me()), Lease(path, Owner.me())
    assert first.try_to_take()
    assert not second.try_to_take()
    first.give_back()
    assert second.try_to_take()
    second.give_back()
    assert not path.exists()


def test_a_holder_that_shows_signs_of_life_keeps_it_for_ever(path):
    clock = Clock()
    holder, waiter = of_another_machine(path), Lease(path, Owner.me(), clock)
    assert holder.try_to_take()
    for _ in range(10):
        assert not waiter.try_to_take()
        clock.now += SILENT_S - 1
        assert holder.beat()


def test_a_silent_holder_of_another_machine_loses_it_and_learns_so(path):
    clock = Clock()
    holder, waiter = of_another_machine(path), Lease(path, Owner.me(), clock)
    assert holder.try_to_take()
    assert not waiter.try_to_take()
    clock.now += SILENT_S
    assert not waiter.try_to_take(), "it is removed"
    assert waiter.try_to_take(), "and then taken, as by everybody else"
    assert not holder.beat()
    holder.give_back()
    assert waiter.beat(), "what is not its own any more is not given back"
    waiter.give_back()


def test_who_is_late_does_not_take_away_what_another_waiter_took_over(path):
    clock = Clock()
    holder, late = of_another_machine(path), Lease(path, Owner.me(), clock)
    assert holder.try_to_take()
    assert not late.try_to_take()
    said = path.read_text().strip()
    path.unlink()
    quick = Lease(path, Owner.me())
    assert quick.try_to_take()
    late._remove(said)
    assert quick.beat()
    quick.give_back()


def test_half_a_lease_is_waited_for_and_then_removed(path):
    clock = Clock()
    path.touch()
    waiter = Lease(path, Owner.me(), clock)
    assert not waiter.try_to_take()
    clock.now += SILENT_S
    waiter.try_to_take()
    assert waiter.try_to_take()
    waiter.give_back()


HOLD = """
import sys, time
from pathlib import Path
from flambeau_runtime.archive.lease import Lease
from flambeau_runtime.archive.owner import Owner
assert Lease(Path(sys.argv[1]), Owner.me()).try_to_take()
print("held", flush=True)
sys.stdin.read()
"""


@pytest.mark.process
@pytest.mark.timeout(60)
def test_a_killed_holder_of_this_machine_keeps_nobody_waiting(path):
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    with holder:
        assert holder.stdout.readline() == b"held\n"
        waiter = Lease(path, Owner.me(), Clock())
        assert not waiter.try_to_take()
        assert not waiter.try_to_take(), "it lives"
        os.kill(holder.pid, signal.SIGKILL)
        os.waitid(os.P_PID, holder.pid, os.WEXITED | os.WNOWAIT)
        waiter.try_to_take()
        assert waiter.try_to_take(), "whoever should wait for a zombie, it is dead"
        waiter.give_back()


def test_an_owner_is_read_as_it_was_written():
    me = Owner.me()
    assert Owner.read(str(me)) == me
    assert Owner.read("x") is Owner.read("a-b-c-d") is None
    assert not me.is_surely_dead()
    assert replace(me, started="1").is_surely_dead()
    assert not replace(me, machine=ELSEWHERE, started="1").is_surely_dead()


def begun(path, content=b"beginning"):
    partial = Partial("shown", path, lambda *_: None)
    return partial, partial.open('"one"', 100, 0), content


@pytest.mark.parametrize("same_machine", [True, False], ids=["of this machine", "of another"])
def test_what_another_has_begun_is_gone_on_with(tmp_path, same_machine):
    partial, opened, content = begun(tmp_path / "before")
    with opened as write:
        write(content)
    inherit(tmp_path / "mine", tmp_path / "before", same_machine=same_machine)
    mine = Partial("shown", tmp_path / "mine", lambda *_: None)
    assert (mine.path.read_bytes(), mine.validator()) == (content, '"one"')
    assert not partial.path.exists()


def test_who_still_writes_writes_to_a_file_without_a_name(tmp_path):
    _, opened, content = begun(tmp_path / "before")
    with opened as write:
        write(content * 10_000)
        inherit(tmp_path / "mine", tmp_path / "before", same_machine=True)
        write(b"more" * 10_000)
    mine = (tmp_path / "mine.partial").read_bytes()
    assert b"more" not in mine
    assert (content * 10_000).startswith(mine)


def test_bytes_of_nobody_knows_what_are_not_gone_on_with(tmp_path):
    (tmp_path / "before.partial").write_bytes(b"bytes")
    inherit(tmp_path / "mine", tmp_path / "before", same_machine=True)
    assert not list(tmp_path.iterdir())
