"""`python -m e2e.everything`: every test of the project, in two streams side by side.

What waits for pods leaves a core to what waits for nothing. Each stream is a pytest of its own, so
that a test has the machine's other core at worst; lines carry the name of their stream. Tests that
failed are run once more, alone: one that passes then is flaky (docs/decisions/0011). The last
lines name what failed and why, and the very last one has the sum.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from e2e import sessions
from e2e.sessions import Limits, Session

CHECKOUT = Path(__file__).parents[1]
STREAMS = {
    "pods": [["e2e", "-m", "tier2"]],
    "rest": [["e2e", "-m", "not tier2"], ["tests"]],
}
MOST_RUN_AGAIN = 15
"""More failures than this are no bad luck."""


@dataclass(slots=True)
class Result:
    """What everything comes to; `failed` and `flaky` are reasons by the names of tests."""

    passed: int = 0
    skipped: int = 0
    failed: dict[str, str] = field(default_factory=dict)
    flaky: dict[str, str] = field(default_factory=dict)

    @property
    def is_good(self) -> bool:
        """Whether every test ran and passed, with the others or alone."""
        return self.passed > 0 and not self.failed

    def lines(self) -> Iterator[str]:
        """Say it: the end of a record is read first, so the worst comes last."""
        for test, reason in self.flaky.items():
            yield f"flaky: {test} - {reason} - passed when it ran alone"
        for test, reason in self.failed.items():
            yield f"failed: {test} - {reason}"
        yield f"{self.passed} passed, {len(self.failed)} failed, {self.skipped} skipped"


def main() -> int:
    """Run everything; return 0 when every test ran and passed."""
    # A shell in the background ignores SIGINT, and so would whatever a test presses Ctrl-C on.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    return run(CHECKOUT, STREAMS, Limits())


def run(suite: Path, streams: Mapping[str, Sequence[Sequence[str]]], limits: Limits) -> int:
    """Run all sessions of the folder `suite`, say how it went, and return the exit status.

    Args:
        suite: the folder; pytest runs in it.
        streams: sessions by the name of their stream, each as the words that pytest is told.
        limits: of each session's time.
    """
    ended = _side_by_side(suite, streams, limits)
    again = [_alone(suite, it, limits) for it in to_run_again(ended)]
    result = judge(ended, again)
    sys.stdout.write("".join(f"{line}\n" for line in result.lines()))
    sys.stdout.flush()
    return 0 if result.is_good else 1


def to_run_again(ended: Sequence[Session]) -> list[Session]:
    """Return the sessions whose failed tests get another chance.

    None do where the run has failed whatever they say: a session broke, or too many failed.
    """
    failures = sum(len(it.told.failed) for it in ended)
    if failures > MOST_RUN_AGAIN or any(it.broken for it in ended):
        return []
    return [it for it in ended if it.told.failed]


def judge(ended: Sequence[Session], again: Sequence[Session]) -> Result:
    """Say what it comes to: what failed beside others and passed alone is flaky."""
    passed_alone = {test for it in again for test in it.told.passed}
    result = Result()
    for it in ended:
        result.passed += len(it.told.passed)
        result.skipped += len(it.told.skipped)
        for test, reason in it.told.failed.items():
            (result.flaky if test in passed_alone else result.failed)[test] = reason
    result.passed += len(result.flaky)
    result.failed |= {it.name: it.broken for it in (*ended, *again) if it.broken}
    return result


def _side_by_side(
    suite: Path, streams: Mapping[str, Sequence[Sequence[str]]], limits: Limits
) -> list[Session]:
    """Run the sessions of each stream one after the other, the streams at the same time."""

    def follow(stream: str) -> list[Session]:
        return [
            sessions.run(f"session of {' '.join(words)}", stream, words, suite, limits)
            for words in streams[stream]
        ]

    with ThreadPoolExecutor(len(streams)) as threads:
        return [session for ended in threads.map(follow, streams) for session in ended]


def _alone(suite: Path, session: Session, limits: Limits) -> Session:
    """Run the failed tests of a session with nothing beside them."""
    name = f"second {session.name}"
    return sessions.run(name, "alone", list(session.told.failed), suite, limits)


if __name__ == "__main__":
    sys.exit(main())
