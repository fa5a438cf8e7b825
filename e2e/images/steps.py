"""A command that takes its time: told about while it runs, quoted when it fails."""

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from e2e.cluster.faults import ClusterFault, tail
from e2e.cluster.progress import Say

TELL_EVERY_S = 15


class StepFailed(ClusterFault):
    """A step of a build ended with an error."""

    def __init__(self, what: str, log: Path) -> None:
        super().__init__(f"{what}: failed; its last lines:\n{tail(log, 40)}")


def run(
    what: str, argv: Sequence[str], log: Path, say: Say, extra: Mapping[str, str] | None = None
) -> None:
    """Run one step to its end.

    Args:
        what: how it is called before people.
        argv: the command.
        log: the file that takes its output.
        say: told now and then how far it is.
        extra: more variables for its environment.

    Raises:
        StepFailed: it did not end with status 0.
    """
    say(what)
    with log.open("w") as output:
        process = subprocess.Popen(
            ["nice", "-n", "10", *argv],
            env=os.environ | dict(extra or {}),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # so that all of it can be stopped at once
        )
        try:
            _watch(process, log, say)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    if process.returncode:
        raise StepFailed(what, log)


def _watch(process: subprocess.Popen[bytes], log: Path, say: Say) -> None:
    begin = time.monotonic()
    while True:
        try:
            process.wait(timeout=TELL_EVERY_S)
        except subprocess.TimeoutExpired:
            said = log.read_text(errors="replace").splitlines()
            say(f"{time.monotonic() - begin:4.0f} s: {said[-1][:100] if said else '-'}")
        else:
            return
