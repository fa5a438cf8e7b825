"""What a worker prints: the last of it is kept, and so many lines a second reach the log."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass

from flambeau_runtime.logs import MODEL_OUTPUT

TAIL_BYTES = 2048
LINES_PER_S = 200.0
BURST_LINES = 1000.0
LINE_BYTES = 8192  # longer lines are cut there
STDOUT, STDERR = "stdout", "stderr"
LEVELS = {STDOUT: logging.INFO, STDERR: logging.WARNING}
"""As TorchServe logs them, each under its own name."""

log = logging.getLogger(__name__)
model_log = logging.getLogger(MODEL_OUTPUT)


class Tail:
    """The last `TAIL_BYTES` of a stream of bytes."""

    __slots__ = ("_kept",)

    def __init__(self) -> None:
        self._kept = b""

    def feed(self, chunk: bytes) -> None:
        """Append a chunk and let the oldest bytes go."""
        self._kept = (self._kept + chunk[-TAIL_BYTES:])[-TAIL_BYTES:]

    def text(self) -> str:
        """Return it as text; what was cut in the middle of a character or line loses that part."""
        text = self._kept.decode("utf-8", "replace")
        if len(self._kept) == TAIL_BYTES:
            head, newline, rest = text.partition("\n")
            text = rest if newline else head.lstrip("\N{REPLACEMENT CHARACTER}")
        return text.strip()


@dataclass(slots=True)
class LineRate:
    """A bucket of lines that fills with time: bursts pass, floods do not."""

    left: float = BURST_LINES
    refilled_s: float = 0.0

    def allowance(self, now: float) -> int:
        """How many lines may pass now."""
        self.left = min(BURST_LINES, self.left + (now - self.refilled_s) * LINES_PER_S)
        self.refilled_s = now
        return int(self.left)


class WorkerOutput:
    """Takes one worker's stdout and stderr in chunks; `worker` is its name in the log."""

    __slots__ = ("_dropped", "_partial", "_rate", "_tail", "_worker")

    def __init__(self, worker: str) -> None:
        self._worker = worker
        self._tail = Tail()
        self._rate = LineRate()
        self._partial = {STDOUT: b"", STDERR: b""}
        self._dropped = 0

    def feed(self, chunk: bytes, now: float, stream: str = STDOUT) -> None:
        """Keep the end of the chunk, and log its lines as long as the rate allows."""
        self._tail.feed(chunk)
        allowance = self._rate.allowance(now)
        if allowance < 1:
            # Not split: a worker that prints a gigabyte costs the front little but the reading.
            self._dropped += chunk.count(b"\n")
            self._partial[stream] = b""
            return
        *lines, rest = (self._partial[stream] + chunk).split(b"\n", allowance)
        if len(lines) == allowance:
            self._dropped += rest.count(b"\n")
            rest = rest[rest.rfind(b"\n") + 1 :]
        if len(rest) > LINE_BYTES:
            lines.append(rest)
            rest = b""
        self._partial[stream] = rest
        self._rate.left -= len(lines)
        self._say(lines, stream)

    def close(self) -> None:
        """Log what is left without an end of line, and how many lines were not logged."""
        for stream, rest in self._partial.items():
            self._say([rest] if rest else [], stream)
        self._confess()
        self._partial = dict.fromkeys(self._partial, b"")

    def tail(self) -> str:
        """Return the last lines."""
        return self._tail.text()

    def _say(self, lines: Sequence[bytes], stream: str) -> None:
        if lines:
            self._confess()
        thread = f"{self._worker}-{stream}"
        for line in lines:
            text = line[:LINE_BYTES].decode("utf-8", "replace").rstrip("\r")
            model_log.log(LEVELS[stream], "%s", text, extra={"worker": thread})

    def _confess(self) -> None:
        if self._dropped:
            log.warning(
                "worker output dropped", extra={"worker": self._worker, "lines": self._dropped}
            )
            self._dropped = 0
