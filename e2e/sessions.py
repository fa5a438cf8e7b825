"""One pytest of many: its lines are printed as they come, its time has a limit, its tests names."""

from __future__ import annotations

import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from e2e import verdicts
from e2e.verdicts import Verdicts

WHOLE = {0, 1}
"""pytest's exit statuses after which every test of a session has run: all passed, some failed."""


@dataclass(frozen=True, slots=True)
class Limits:
    """How long a session may take, how long its end, and how long its last output."""

    session_s: float = 3600.0
    stop_s: float = 60.0
    output_s: float = 10.0


@dataclass(frozen=True, slots=True)
class Session:
    """A pytest that has ended.

    Args:
        name: what it ran.
        told: how its tests went.
        broken: why that is not all there is to know; empty: it is.
    """

    name: str
    told: Verdicts = field(default_factory=Verdicts)
    broken: str = ""


def run(name: str, stream: str, words: Sequence[str], suite: Path, limits: Limits) -> Session:
    """Run one pytest in the folder `suite`, to its end or its limit.

    Args:
        name: what the session is called afterwards.
        stream: what its lines begin with.
        words: what pytest is told.
        suite: the folder that holds the tests.
        limits: of its time.
    """
    with verdicts.file() as path, _folder() as folder:
        flags = [*verdicts.flags(path), f"--basetemp={folder}/t", "--durations=10"]
        command = [sys.executable, "-m", "pytest", *flags, *words]
        process = subprocess.Popen(
            command, cwd=suite, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        printing = threading.Thread(target=_print, args=(stream, process.stdout), daemon=True)
        printing.start()
        late = _await_end(process, limits)
        # Not for ever: what a test has left running may still hold the pipe open.
        printing.join(limits.output_s)
        told = verdicts.read(path)
    return Session(name, told, _why_broken(process.returncode, late, told))


def _folder() -> tempfile.TemporaryDirectory[str]:
    """Return a folder for what tests write: two pytests beside each other clear away one another's.

    What a process that a test left running still writes there is no reason to fail.
    """
    return tempfile.TemporaryDirectory(prefix="flambeau-", ignore_cleanup_errors=True)


def _print(stream: str, output: IO[bytes]) -> None:
    with output:
        for line in output:
            # A pytest that was killed has not ended its last line.
            text = line.decode(errors="replace").rstrip("\n")
            sys.stdout.write(f"[{stream}] {text}\n")
            sys.stdout.flush()


def _await_end(process: subprocess.Popen[bytes], limits: Limits) -> str:
    """Wait for the end, or bring it about; return what was wrong with it."""
    try:
        process.wait(limits.session_s)
    except subprocess.TimeoutExpired:
        # As Ctrl-C does: fixtures are torn down, and the trace says where it stood.
        process.send_signal(signal.SIGINT)
    else:
        return ""
    try:
        process.wait(limits.stop_s)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    return f"stopped at its limit of {limits.session_s / 60:g} minutes"


def _why_broken(status: int, late: str, told: Verdicts) -> str:
    if late:
        why = late
    elif status < 0:
        why = f"killed by signal {-status} ({signal.strsignal(-status)})"
    elif told.ended is None:
        why = f"gone with status {status} before its end"
    elif status not in WHOLE:
        why = f"pytest gave up with status {status}"
    elif status and not told.failed:
        why = f"pytest ended with status {status}, and no test says why"
    else:
        return ""
    return f"{why}; the last test that began: {told.began or 'none'}"
