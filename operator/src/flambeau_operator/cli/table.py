"""The live table of `flambeau up` on a terminal; the only user of rich."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from flambeau_operator.cli.problems import Problem
from flambeau_operator.cli.report import NewEvents, Report, Shown, report

READY_STYLES = {"True": "bold green", "False": "bold red"}
EVENTS_SHOWN = 5


@contextmanager
def live_table() -> Iterator[LiveTable]:
    """Draw in place until the block is left; the last picture stays."""
    console = Console(highlight=False)
    with Live(console=console, auto_refresh=False, vertical_overflow="visible") as live:
        yield LiveTable(live)


class LiveTable:
    """How the deployments stand, drawn anew after every change."""

    def __init__(self, live: Live) -> None:
        self._live = live
        self._reports: tuple[Report, ...] = ()
        self._problems: tuple[Problem, ...] = ()
        self._events = NewEvents()
        self._recent: list[str] = []
        self._tried: set[str] = set()
        self._footer = "Ctrl-C stops everything. Edits of the files are followed."

    def show(self, deployments: Sequence[Shown]) -> None:
        """Draw the deployments and their latest events."""
        self._reports = tuple(report(each.deployment, each.body) for each in deployments)
        for each in deployments:
            for event in self._events.of(each.deployment):
                what = event.event
                self._recent.append(f"{event.at:%H:%M:%S}  {what.reason}: {what.message}")
        del self._recent[:-EVENTS_SHOWN]
        for seen in self._reports:
            self._say_what_to_try(seen)
        self._draw()

    def _say_what_to_try(self, seen: Report) -> None:
        """Write commands to paste, once, above the table: in there they would be cut or folded."""
        if seen.ready == "True" and seen.name not in self._tried:
            self._tried.add(seen.name)
            lines = "".join(f"  {line}\n" for line in seen.try_next)
            self._live.console.print(Text(f"{seen.name} is ready, try:\n{lines}"), soft_wrap=True)

    def complain(self, problems: Sequence[Problem]) -> None:
        """Draw what is wrong with the files below the table."""
        self._problems = tuple(problems)
        self._draw()

    def stopping(self) -> None:
        """Say in the last line that the end has begun."""
        self._footer = (
            "Stopping: requests in flight are finished first. Ctrl-C again stops at once."
        )
        self._draw()

    def _draw(self) -> None:
        parts: list[RenderableType] = [_summary(self._reports)]
        for each in self._reports:
            parts.extend(_details(each))
        parts.extend(Text(line, style="dim") for line in self._recent)
        parts.extend(Text(str(problem), style="red") for problem in self._problems)
        if self._problems:
            parts.append(Text("The last good version stays.", style="yellow"))
        parts.append(Text(self._footer, style="dim"))
        self._live.update(Group(*parts), refresh=True)


def _grid(*columns: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column, overflow="fold")
    return table


def _summary(reports: Sequence[Report]) -> Table:
    table = _grid("NAME", "READY", "REASON", "MODELS", "WORKERS", "REPLICAS", "URL")
    for each in reports:
        ready = Text(each.ready, style=READY_STYLES.get(each.ready, "yellow"))
        table.add_row(
            each.name, ready, each.reason, each.summary, each.workers, each.replicas, each.url
        )
    return table


def _details(seen: Report) -> Iterator[RenderableType]:
    models = _grid("MODEL", "VERSION", "PHASE", "WORKERS")
    for model in seen.models:
        models.add_row(model.name, model.version, model.phase, str(model.ready_workers))
    pods = _grid("POD", "PID", "PORT", "STATE", "RESTARTS")
    for pod in seen.pods:
        pods.add_row(pod.name, pod.pid, pod.port, pod.state, str(pod.restarts))
    yield Text()
    if seen.models:
        yield Padding(models, (0, 0, 1, 2))
    yield Padding(pods, (0, 0, 1, 2))
    if seen.message and seen.reason != "AllModelsServing" and not seen.failures:
        yield Text(f"  {seen.message}", style="yellow")
    for failure in seen.failures:
        yield Text(f"  failed: {failure}", style="red")
        yield from (Text(f"    {line}", style="dim") for line in failure.log_tail.splitlines())
    if seen.without_effect:
        yield Text(f"  {seen.without_effect}", style="yellow")
    for problem in seen.problems:
        yield Text(f"  problem: {problem}", style="red")
