"""The one exception by which a handler chooses the status of its answer."""

from __future__ import annotations


class PredictionException(Exception):
    """Raised by handlers: answer every request of this batch with this message and status."""

    def __init__(self, message: str, error_code: int = 500) -> None:
        super().__init__(message)
        self.message = message
        self.error_code = error_code

    def __str__(self) -> str:
        return f"{self.message} : {self.error_code}"
