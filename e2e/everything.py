"""`python -m e2e.everything`: every test of the project, in two streams side by side.

What waits for pods leaves a core to what waits for nothing. Each stream is a pytest of its own, so
that a test has the machine's other core at worst; lines carry the name of their stream, and the
last line has the sum.
"""

import re
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

CHECKOUT = Path(__file__).parents[1]
STREAMS = {
    "pods": [["e2e", "-m", "tier2"]],
    "rest": [["e2e", "-m", "not tier2"], ["tests"]],
}
CLOSING = re.compile(r"^=+ (?:.*\d+ \w+.*) in [\d.]+s.*=+$")
COUNTED = re.compile(r"(\d+) (passed|failed|error|skipped)")


def main() -> int:
    """Run both streams; return 0 when every test ran and passed."""
    # A shell in the background ignores SIGINT, and so would whatever a test presses Ctrl-C on.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    counts: Counter[str] = Counter()
    statuses: list[int] = []
    lock = threading.Lock()

    def run(name: str, sessions: Sequence[Sequence[str]]) -> None:
        for words in sessions:
            status, found = _session(name, words)
            with lock:
                statuses.append(status)
                counts.update(found)

    threads = [threading.Thread(target=run, args=stream) for stream in STREAMS.items()]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    failed = counts["failed"] + counts["error"]
    sys.stdout.write(f"{counts['passed']} passed, {failed} failed, {counts['skipped']} skipped\n")
    return 0 if counts["passed"] and not any(statuses) else 1


def _session(name: str, words: Sequence[str]) -> tuple[int, Counter[str]]:
    """Run one pytest and return its status and what its closing line counts."""
    counts: Counter[str] = Counter()
    command = [sys.executable, "-m", "pytest", "--durations=10", *words]
    with subprocess.Popen(
        command, cwd=CHECKOUT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        for line in process.stdout or ():
            sys.stdout.write(f"[{name}] {line}")
            sys.stdout.flush()
            if CLOSING.match(line.strip()):
                counts = Counter({kind: int(number) for number, kind in COUNTED.findall(line)})
    return process.returncode, counts


if __name__ == "__main__":
    sys.exit(main())
