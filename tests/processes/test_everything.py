"""What CI runs says who failed and why, and gives what failed beside others one chance alone."""

from __future__ import annotations

import os
import signal
import textwrap
from pathlib import Path

import pytest
from e2e import everything
from e2e.sessions import Limits

pytestmark = [pytest.mark.process, pytest.mark.timeout(120)]

PASSES = "def test_good(): pass"
FAILS = """
    def test_bad():
        raise ValueError("two and two")
"""
FAILS_ONCE = """
    import pathlib
    import pytest

    @pytest.mark.parametrize("case", ["a - b :: c [d]"])
    def test_shy(case):
        seen = pathlib.Path("seen")
        if not seen.exists():
            seen.touch()
            raise ValueError("not beside others")
"""
TEARS_DOWN_BADLY = """
    import pytest

    @pytest.fixture
    def thing():
        yield
        raise RuntimeError("cannot let go")

    def test_holding(thing): pass
"""
IS_KILLED = """
    import os
    import signal

    def test_deadly(): os.kill(os.getpid(), signal.SIGKILL)
"""
JUST_LEAVES = """
    import os

    def test_leaving(): os._exit(0)
"""
HANGS = """
    import threading

    def test_stuck(): threading.Event().wait()
"""
LEAVES_A_CHILD = """
    import pathlib
    import subprocess

    def test_parent():
        child = subprocess.Popen(["sleep", "600"])
        pathlib.Path("child").write_text(str(child.pid))
"""


@pytest.fixture
def run(tmp_path, monkeypatch, capfd):
    """Run suites given as file names and texts, each a stream; return status and last lines."""
    monkeypatch.setenv("PYTHONPATH", str(everything.CHECKOUT))
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    (tmp_path / "pytest.ini").write_text("[pytest]\n")

    def start(limits=Limits(), **suites):  # noqa: B008  it is frozen
        for name, text in suites.items():
            (tmp_path / f"test_{name}.py").write_text(textwrap.dedent(text))
        streams = {name: [[f"test_{name}.py"]] for name in suites}
        status = everything.run(tmp_path, streams, limits)
        return status, [line for line in capfd.readouterr().out.splitlines() if line[0] != "["]

    return start


def test_when_all_pass_the_last_line_has_the_sum_of_both_streams(run):
    assert run(one=PASSES, two=PASSES) == (0, ["2 passed, 0 failed, 0 skipped"])


def test_who_fails_again_alone_has_failed_and_is_named_with_the_reason(run):
    status, last = run(one=PASSES, two=FAILS)
    assert status == 1
    failed = "failed: test_two.py::test_bad - ValueError: two and two"
    assert last == [failed, "1 passed, 1 failed, 0 skipped"]


def test_who_passes_alone_is_flaky_named_with_the_reason_and_no_failure(run):
    status, last = run(one=PASSES, two=FAILS_ONCE)
    assert status == 0
    name = "test_two.py::test_shy[a - b :: c [d]]"
    flaky = f"flaky: {name} - ValueError: not beside others - passed when it ran alone"
    assert last == [flaky, "2 passed, 0 failed, 0 skipped"]


def test_a_flaky_one_excuses_no_other(run):
    status, last = run(one=FAILS_ONCE, two=FAILS)
    assert status == 1
    assert [line.split()[0] for line in last[:-1]] == ["flaky:", "failed:"]


def test_a_test_that_passes_and_cannot_be_torn_down_has_failed(run):
    status, last = run(one=TEARS_DOWN_BADLY)
    assert status == 1
    assert "test_one.py::test_holding - RuntimeError: cannot let go (in its teardown)" in last[0]
    assert last[1] == "0 passed, 1 failed, 0 skipped"


def test_many_failures_are_no_bad_luck_and_not_run_again(run, tmp_path):
    note = "pathlib.Path('runs').open('a').write('x'); assert number < 0"
    many = f"""
    import pathlib
    import pytest

    @pytest.mark.parametrize("number", range({everything.MOST_RUN_AGAIN + 1}))
    def test_bad(number): {note}
    """
    status, last = run(one=many)
    assert status == 1
    assert last[-1] == "0 passed, 16 failed, 0 skipped"
    assert len(last) == 17
    assert len((tmp_path / "runs").read_text()) == 16


@pytest.mark.parametrize(
    ("suite", "why"),
    [
        pytest.param(IS_KILLED, "killed by signal 9 (Killed)", id="killed"),
        pytest.param(JUST_LEAVES, "gone with status 0 before its end", id="gone without a word"),
    ],
)
def test_a_pytest_that_does_not_reach_its_end_is_a_failure(run, suite, why):
    status, last = run(one=PASSES, two=suite)
    assert status == 1
    assert f"session of test_two.py - {why}; the last test that began: test_two.py::" in last[0]
    assert last[1] == "1 passed, 1 failed, 0 skipped"


def test_a_file_that_cannot_be_imported_hides_no_other_test(run):
    status, last = run(one="import nothing_of_that_name", two=FAILS_ONCE)
    assert status == 1
    broken, shy, session, total = last
    assert broken.startswith("failed: test_one.py - ModuleNotFoundError: No module named 'nothing")
    # Where a session broke, nothing runs again: the run has failed anyway.
    assert shy.startswith("failed: test_two.py::test_shy")
    assert "session of test_one.py - pytest gave up with status 2" in session
    assert total == "0 passed, 3 failed, 0 skipped"


def test_a_session_has_a_limit_and_says_when_it_strikes(run):
    status, last = run(Limits(session_s=6, stop_s=20), one=HANGS)
    assert status == 1
    assert "session of test_one.py - stopped at its limit of 0.1 minutes" in last[0]
    assert last[0].endswith("the last test that began: test_one.py::test_stuck")


def test_what_a_test_left_running_holds_nothing_up(run, tmp_path):
    status, last = run(Limits(output_s=1), one=LEAVES_A_CHILD)
    end_child(tmp_path)
    assert (status, last) == (0, ["1 passed, 0 failed, 0 skipped"])


def end_child(folder: Path) -> None:
    os.kill(int((folder / "child").read_text()), signal.SIGKILL)
