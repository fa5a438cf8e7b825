"""The held-out wines as requests, each with the answers that versions 1.0 and 2.0 must give."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.load import Answer, Question, WrongAnswer, expect

CLASS_NAMES = ("grower A", "grower B", "grower C")
# A batch of eight is multiplied in another order than a row alone: the last bits may differ.
TOLERANCE = 1e-4


@dataclass(frozen=True, slots=True)
class Wine:
    """One wine that the training never saw."""

    features: Sequence[float]
    grower: int
    probabilities: Mapping[str, Sequence[float]]  # version → what it must answer

    def question(self) -> Question:
        """Return the request for this wine; a right answer's word is the version that gave it."""
        body = json.dumps({"features": self.features}).encode()
        return Question("/predictions/classifier", body, self.version_of)

    def version_of(self, answer: Answer) -> str:
        """Return the version whose answer this is, in every field; raise where there is none."""
        expect(answer.status == 200, f"{answer.status} {answer.body[:200]!r}")
        told = json.loads(answer.body)
        fields = {"predicted_class", "confidence", "probabilities", "class_name"}
        expect(set(told) == fields, f"fields {sorted(told)}")
        version = self._version_with(told["probabilities"])
        best = max(range(3), key=told["probabilities"].__getitem__)
        expect(told["predicted_class"] == best, f"class {told['predicted_class']}, not {best}")
        expect(told["confidence"] == told["probabilities"][best], "confidence is not the best's")
        expect(told["class_name"] == CLASS_NAMES[best], f"class name {told['class_name']!r}")
        return version

    def _version_with(self, probabilities: Sequence[float]) -> str:
        for version, expected in self.probabilities.items():
            apart = [abs(a - b) for a, b in zip(probabilities, expected, strict=True)]
            if max(apart) < TOLERANCE:
                return version
        raise WrongAnswer(f"no version answers {probabilities}")


def read_wines(build: Path) -> list[Wine]:
    """Return the held-out wines that train.py has left in its folder."""
    return [Wine(**row) for row in json.loads((build / "held_out.json").read_text())]
