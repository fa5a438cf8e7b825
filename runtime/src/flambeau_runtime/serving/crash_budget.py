"""When a worker that died is started again, and when no more."""

from __future__ import annotations

from dataclasses import dataclass

WINDOW_S = 300.0
"""How long after the first failure retries go on: TorchServe's maxRetryTimeoutInSec."""

_DELAYS_S = (1, 1, 2, 3, 5, 8, 13, 21, 34, 55, 89, 144, 233, 377, 610, 987, 1597)


@dataclass(slots=True)
class CrashBudget:
    """The deaths of one worker since it last proved itself; `now` is monotonic, in seconds."""

    window_s: float = WINDOW_S
    failures: int = 0
    first_failure_s: float = 0.0

    def spend(self, now: float) -> float | None:
        """Count one death; return the seconds until the next start, None when that is too late."""
        if self.failures == 0:
            self.first_failure_s = now
        delay_s = float(_DELAYS_S[min(self.failures, len(_DELAYS_S) - 1)])
        self.failures += 1
        if now + delay_s > self.first_failure_s + self.window_s:
            return None
        return delay_s

    def reset(self) -> None:
        """Forget all deaths: the worker proved itself, or somebody asked for another try."""
        self.failures = 0
