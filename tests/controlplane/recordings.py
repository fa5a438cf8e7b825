"""Objects as the operator leaves them in every phase, for other programs to read.

`python -m tests.controlplane.recordings` writes them to `recorded/` anew, one file each. Whether
those programs agree is asked in test_recordings.py and, over an API server, in e2e/test_health.py.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tests.builders import deployment_body
from tests.controlplane.release_stories import RELEASES
from tests.controlplane.simulated_pods import World
from tests.controlplane.stories import STORIES, Health, Story

__all__ = ["FOLDER", "RECORDINGS", "Health", "Recording"]

FOLDER = Path(__file__).parent / "recorded"


@dataclass(frozen=True, slots=True)
class Recording:
    """An object and what it has to be taken for."""

    name: str
    health: Health
    story: Story

    @property
    def file(self) -> Path:
        """Where it is kept."""
        return FOLDER / f"{self.name}.yaml"

    def play(self) -> dict[str, Any]:
        """Return the object as the code of today leaves it, with its status if it has one."""
        world = World(deployment_body(metadata={"name": self.name}, replicas=2))
        self.story(world)
        body = dict(world.body)
        kept = {key: value for key, value in body["metadata"].items() if key != "uid"}
        told = world.status.to_json() if world.status.observed_generation >= 0 else None
        return {**body, "metadata": kept, **({"status": told} if told else {})}

    def read(self) -> dict[str, Any]:
        """Return the object as it was recorded."""
        recorded: dict[str, Any] = yaml.safe_load(self.file.read_text())
        return recorded

    def write(self) -> None:
        """Record it."""
        text = yaml.safe_dump(self.play(), sort_keys=False, width=110)
        self.file.write_text(f"# Written by tests/controlplane/recordings.py.\n{text}")


def _all() -> Iterator[Recording]:
    for health in Health:
        for name, story in {**STORIES[health], **RELEASES[health]}.items():
            yield Recording(name, health, story)


RECORDINGS = tuple(_all())


def main() -> None:
    """Write every file anew, and remove those that are of nobody."""
    for file in FOLDER.glob("*.yaml"):
        file.unlink()
    for each in RECORDINGS:
        each.write()


if __name__ == "__main__":
    main()
