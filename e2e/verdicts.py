"""A pytest plugin that writes down how each test went, while it goes: `-p e2e.verdicts`.

What pytest prints is for people. This is for `everything.py`, which has to know the tests by name,
also those of a session that was killed. One JSON object a line: `{"began": TEST}`,
`{"test": TEST, "outcome": "passed" | "failed" | "skipped", "reason": TEXT}`, and at the very end
`{"ended": STATUS}`.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

LONGEST_REASON = 200


@dataclass(slots=True)
class Verdicts:
    """What a session said about its tests.

    Args:
        passed: the tests that passed.
        skipped: those that were left out.
        failed: those that failed in any of their phases, each with the first line of its reason;
            a file that cannot be imported is one, too.
        began: the test that began last.
        ended: pytest's own exit status; None: it was gone before it could say so.
    """

    passed: set[str] = field(default_factory=set)
    skipped: set[str] = field(default_factory=set)
    failed: dict[str, str] = field(default_factory=dict)
    began: str = ""
    ended: int | None = None


@contextmanager
def file() -> Iterator[Path]:
    """Have a place to write to, for the length of a block."""
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder) / "verdicts"


def flags(path: Path) -> list[str]:
    """Return what to tell pytest to have the file written."""
    return ["-p", __name__, f"--verdicts={path}"]


def read(path: Path) -> Verdicts:
    """Read what the plugin wrote; nothing if it never came so far."""
    verdicts = Verdicts()
    for line in _whole_lines(path):
        said = json.loads(line)
        verdicts.began = said.get("began", verdicts.began)
        verdicts.ended = said.get("ended", verdicts.ended)
        if "test" in said:
            _take(verdicts, said)
    return verdicts


def _whole_lines(path: Path) -> list[str]:
    """Return the lines that were written to their end: a kill may have cut the last one."""
    text = path.read_text() if path.exists() else ""
    return [line for line in text.splitlines(keepends=True) if line.endswith("\n")]


def _take(verdicts: Verdicts, said: Mapping[str, str]) -> None:
    """Keep one outcome; a test that fails while it is torn down has not passed."""
    test = said["test"]
    if said["outcome"] == "failed":
        verdicts.passed.discard(test)
        verdicts.skipped.discard(test)
        verdicts.failed.setdefault(test, said["reason"])
    elif test not in verdicts.failed:
        (verdicts.passed if said["outcome"] == "passed" else verdicts.skipped).add(test)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Have the path given."""
    parser.addoption("--verdicts", metavar="FILE", help="write how each test went to this file")


@pytest.hookimpl(wrapper=True)
def pytest_cmdline_main(config: pytest.Config) -> Iterator[None]:
    """Write for as long as the session lasts."""
    path = config.getoption("verdicts")
    if path is None:
        return (yield)
    # Line by line: what was written stays written if pytest is killed.
    with Path(path).open("a", buffering=1) as file:
        config.pluginmanager.register(_Writer(file.write))
        return (yield)


class _Writer:
    """The hooks that hear how it goes."""

    def __init__(self, write: Callable[[str], object]) -> None:
        self._write = write

    def _say(self, **said: object) -> None:
        self._write(json.dumps(said) + "\n")

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        self._say(began=nodeid)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        # A set-up or a tear-down that went well says nothing about its test.
        if report.when == "call" or not report.passed:
            self._say(test=report.nodeid, outcome=report.outcome, reason=_reason(report))

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.failed:
            self._say(test=report.nodeid, outcome="failed", reason=_reason(report))

    def pytest_sessionfinish(self, exitstatus: int) -> None:
        self._say(ended=int(exitstatus))


def _reason(report: pytest.TestReport | pytest.CollectReport) -> str:
    """Return one line that says why; empty for what passed."""
    crash = getattr(report.longrepr, "reprcrash", None)
    lines = (crash.message if crash else report.longreprtext).strip().splitlines() or [""]
    # The first line of a crash is its error; of what could not be imported it is the last.
    line = (lines[0] if crash else lines[-1].removeprefix("E ")).strip()
    where = "" if getattr(report, "when", "call") == "call" else f" (in its {report.when})"
    cut = line if len(line) <= LONGEST_REASON else f"{line[:LONGEST_REASON]}…"
    return f"{cut}{where}" if report.failed else ""
