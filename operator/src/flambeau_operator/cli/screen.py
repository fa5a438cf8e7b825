"""Where `flambeau up` writes: a live table on a terminal, else lines, else JSON lines."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, Protocol

from flambeau_operator.cli.problems import Problem
from flambeau_operator.cli.report import NewEvents, Report, Shown, report
from flambeau_operator.session import LocalDeployment


class Screen(Protocol):
    """One way to tell people, or programs, how things stand."""

    def show(self, deployments: Sequence[Shown]) -> None:
        """Write how the deployments stand now."""

    def complain(self, problems: Sequence[Problem]) -> None:
        """Write what is wrong with the files; nothing means that they are right again."""

    def stopping(self) -> None:
        """Say that the end has begun."""


@contextmanager
def open_screen(*, as_json: bool) -> Iterator[Screen]:
    """Choose how to write, by what was asked for and where stdout leads."""
    if as_json:
        yield JsonLines()
    elif not sys.stdout.isatty():
        yield PlainLines()
    else:
        # rich is loaded when the pods are already starting, and only where it draws.
        from flambeau_operator.cli.table import live_table  # noqa: PLC0415

        with live_table() as table:
            yield table


class PlainLines:
    """A line for everything that changed: for logs and pipes."""

    def __init__(self) -> None:
        self._said: dict[str, str] = {}
        self._events = NewEvents()

    def show(self, deployments: Sequence[Shown]) -> None:
        """Write the lines that differ from the last time."""
        for each in deployments:
            seen = report(each.deployment, each.body)
            for subject, line in _lines(seen):
                if self._said.get(subject) != line:
                    self._said[subject] = line
                    _write(line)
            for event in self._events.of(each.deployment):
                what = event.event
                _write(f"{seen.name}: {what.type} {what.reason}: {what.message}")

    def complain(self, problems: Sequence[Problem]) -> None:
        """Write each problem on a line of its own."""
        for problem in problems:
            _write(str(problem))
        _write("the last good version stays" if problems else "the files are right again")

    def stopping(self) -> None:
        """Say that the end has begun."""
        _write("stopping")


class JsonLines:
    """One JSON object per change: for programs."""

    def __init__(self) -> None:
        self._deployments: list[dict[str, Any]] = []
        self._problems: list[str] = []
        self._events = NewEvents()

    def show(self, deployments: Sequence[Shown]) -> None:
        """Write everything there is to know, with the events since the last time."""
        self._deployments = [self._deployment(each.deployment) for each in deployments]
        self._write("changed")

    def complain(self, problems: Sequence[Problem]) -> None:
        """Write the last state with the problems."""
        self._problems = [str(problem) for problem in problems]
        self._write("filesRead")

    def stopping(self) -> None:
        """Say that the end has begun."""
        self._write("stopping")

    def _write(self, kind: str) -> None:
        line = {
            "kind": kind,
            "time": datetime.now(UTC).isoformat(),
            "deployments": self._deployments,
            "problems": self._problems,
        }
        _write(json.dumps(line))

    def _deployment(self, deployment: LocalDeployment) -> dict[str, Any]:
        pods = [
            {
                "name": pod.name,
                "pid": pod.pid,
                "phase": pod.phase,
                "restarts": pod.restarts,
                "inferenceUrl": pod.inference_url,
                "managementUrl": pod.management_url,
                "logFile": str(pod.log_file),
                "lastExit": pod.last_exit,
            }
            for pod in deployment.pods
        ]
        events = [
            {
                "time": each.at.isoformat(),
                "type": each.event.type,
                "reason": each.event.reason,
                "message": each.event.message,
            }
            for each in self._events.of(deployment)
        ]
        return {
            "namespace": deployment.key.namespace,
            "name": deployment.key.name,
            "url": deployment.url,
            "generation": deployment.generation,
            "status": deployment.status,
            "pods": pods,
            "events": events,
            "problems": deployment.problems,
        }


def _lines(seen: Report) -> Iterator[tuple[str, str]]:
    """Yield (what the line is about, the line)."""
    yield seen.name, seen.headline
    for model in seen.models:
        line = f"{seen.name}: model {model.name} {model.version} {model.phase}"
        yield f"{seen.name}/{model.name}", f"{line}, {model.ready_workers} workers ready"
    for pod in seen.pods:
        line = f"{seen.name}: pod {pod.name} {pod.state}, pid {pod.pid}, port {pod.port}"
        yield f"{seen.name}/{pod.name}", f"{line}, {pod.restarts} restarts"
    for failure in seen.failures:
        tail = "".join(f"\n    {line}" for line in failure.log_tail.splitlines())
        yield f"{seen.name}/{failure.model}/failure", f"{seen.name}: failed: {failure}{tail}"
    if seen.without_effect:
        yield f"{seen.name}/without effect", f"{seen.name}: {seen.without_effect}"
    for number, problem in enumerate(seen.problems):
        yield f"{seen.name}/problem/{number}", f"{seen.name}: problem: {problem}"
    if seen.ready == "True":
        yield f"{seen.name}/try", "\n".join(["try:", *(f"  {line}" for line in seen.try_next)])


def _write(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()
