"""How the rollouts of a ModelDeployment are drawn: lines of styled words for any screen."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Final

from flambeau_operator.cli.rollout_view import ModelView, Outcome, StepState, StepView, View
from flambeau_operator.resources.deployment_status import (
    AnalysisStatus,
    LastFailure,
    Measured,
    ModelPhase,
)
from flambeau_operator.resources.quantities import format_duration

Word = tuple[str, str]
"""Text, and its style for a screen that has any: `bold`, `dim`, `red`, or nothing."""
Line = tuple[Word, ...]

MARKS: Final = {StepState.DONE: "✔", StepState.CURRENT: "●", StepState.NEXT: "○"}
STEP_STYLES: Final = {StepState.DONE: "green", StepState.CURRENT: "bold", StepState.NEXT: "dim"}
OUTCOME_STYLES: Final = {
    Outcome.ROLLED_OUT: "bold green",
    Outcome.STALLED: "bold red",
    Outcome.PAUSED: "bold yellow",
}
VERDICT_STYLES: Final = {"Passed": "green", "Failed": "red", "Inconclusive": "yellow"}
LABEL: Final = 10  # columns


def status_lines(view: View) -> tuple[Line, ...]:
    """Draw how a ModelDeployment stands."""
    lines: list[Line] = [
        ((view.name, "bold"), (f"  {view.namespace}, {view.where}", "dim")),
        tuple(_headline(view)),
    ]
    for model in view.models:
        lines.append(())
        lines.extend(_model(model, view))
    return tuple(lines)


def _headline(view: View) -> Iterator[Word]:
    yield str(view.outcome), OUTCOME_STYLES.get(view.outcome, "bold")
    if not view.seen:
        yield f": the operator has not seen generation {view.generation} yet", ""
    elif view.message and not any(each.rolling for each in view.models):
        reason = f"{view.reason}: " if view.reason != str(view.outcome) else ""
        yield f": {reason}{view.message}", ""
    ready = f"Ready {view.ready}, {view.ready_replicas}/{view.replicas} pods"
    yield f"  ({ready})", "dim" if view.ready == "True" else "red"


def _model(model: ModelView, view: View) -> Iterator[Line]:
    yield tuple(_title(model))
    if model.steps:
        yield _labelled("steps", *_steps(model))
    if model.mode and model.rolling:
        reason = f": {model.mode_reason}" if model.mode_reason else ""
        yield _labelled("mode", (f"{model.mode}{reason}", ""))
    if model.rolling:
        yield _labelled("pods", (f"{model.ready_pods} of {view.replicas} have it ready", ""))
    if model.analysis and (model.rolling or model.analysis.verdict != "Waiting"):
        yield from _analysis(model.analysis)
    if model.waits_for:
        yield _labelled("waits for", (model.waits_for, "yellow" if model.held else ""))
    if model.kept and model.kept_for_s is not None:
        left = format_duration(round(model.kept_for_s))
        yield _labelled("kept", (f"{model.kept} stays loaded for {left}: set it back at once", ""))
    yield from _failure("failed", model.last_failure)
    yield from _failure("beside it", model.beside_failure)
    yield from _next(model, view)


def _title(model: ModelView) -> Iterator[Word]:
    yield model.name, "bold"
    yield f"  {_versions(model)}  ", ""
    bad = model.phase in {ModelPhase.FAILED, ModelPhase.ROLLED_BACK, ModelPhase.ROLLING_BACK}
    yield str(model.phase), "red" if bad else "green" if model.phase is ModelPhase.SERVING else ""
    if model.rolling:
        yield f", {model.weight} % of the requests", ""
        yield f"  {model.hash}", "dim"


def _versions(model: ModelView) -> str:
    if model.candidate and model.candidate != model.target:
        return f"{model.active} + {model.candidate}"
    moving = model.active and model.target and model.active != model.target
    return f"{model.active} → {model.target}" if moving else model.target or model.active or "?"


def _steps(model: ModelView) -> Iterator[Word]:
    for number, step in enumerate(model.steps):
        yield (
            ("   " if number else "") + f"{MARKS[step.state]} {_step(step)}",
            STEP_STYLES[step.state],
        )
        if step.state is StepState.CURRENT and model.pause_left_s:
            yield f", {format_duration(round(model.pause_left_s))} left", "bold"


def _step(step: StepView) -> str:
    shadow = f" + {step.shadow} % copied" if step.shadow else ""
    pause = f" for {format_duration(step.pause_s)}" if step.pause_s else ""
    return f"{step.weight} %{shadow}{pause}"


def _analysis(analysis: AnalysisStatus) -> Iterator[Line]:
    versions = [each for each in (analysis.old, analysis.new) if each]
    if versions:
        head = ("VERSION", "REQUESTS", "ERRORS", "RESTARTS", "P50", "P95", "P99")
        for number, row in enumerate(table([head, *map(_measured, versions)])):
            yield _labelled("" if number else "measured", (row, "" if number else "dim"))
    verdict = f"{analysis.verdict}: {analysis.message}" if analysis.message else analysis.verdict
    yield _labelled("verdict", (verdict, VERDICT_STYLES.get(analysis.verdict, "")))


def _measured(version: Measured) -> tuple[str, ...]:
    share = f" ({100 * version.errors / version.requests:.1f} %)" if version.requests else ""
    return (
        version.version,
        str(version.requests),
        f"{version.errors}{share if version.errors else ''}",
        str(version.restarts),
        *(_ms(each) for each in (version.p50_ms, version.p95_ms, version.p99_ms)),
    )


def _ms(value: float | None) -> str:
    return "-" if value is None else f"{value:.0f} ms" if value >= 100 else f"{value:.1f} ms"  # noqa: PLR2004


def _failure(label: str, failure: LastFailure | None) -> Iterator[Line]:
    if failure is None:
        return
    where = f" in {failure.pod}" if failure.pod else ""
    said = f"{_at(failure.time)}{where}: {failure.reason}: {failure.message}"
    yield _labelled(label, (said, "red"))
    for line in failure.log_tail.splitlines():
        yield _labelled("", (line, "dim"))


def _next(model: ModelView, view: View) -> Iterator[Line]:
    """Say which command would change something, where a person is needed."""
    if (model.rolling or model.waits_for) and (model.held or view.paused):
        verbs = "resume" if view.paused and not model.held else "promote | abort"
    elif not model.rolling and model.failed:
        verbs = "retry"
    else:
        return
    yield _labelled("next", (f"flambeau rollout {verbs} {view.name}", "bold"))


def history_lines(view: View) -> tuple[Line, ...]:
    """Draw the rollouts of every model, the running one first."""
    rows: list[tuple[str, ...]] = [("MODEL", "VERSION", "OUTCOME", "MODE", "ENDED", "TOOK", "WHY")]
    for model in view.models:
        if model.rolling:
            versions = _from_to(model.active, model.candidate)
            rows.append((model.name, versions, "Running", model.mode or "-", "-", "-", ""))
        for past in model.history:
            took = _took(past.started_at, past.ended_at)
            rows.append(
                (
                    model.name,
                    _from_to(past.from_version, past.version),
                    past.outcome,
                    past.mode or "-",
                    _at(past.ended_at),
                    took,
                    past.message,
                )
            )
    if len(rows) == 1:
        return ((("no rollout is remembered", "dim"),),)
    return tuple(
        ((row, "" if number else "dim"),) for number, row in enumerate(table(rows, right=False))
    )


def table(rows: Sequence[Sequence[str]], *, right: bool = True) -> tuple[str, ...]:
    """Return rows of cells as lines, every column as wide as its widest cell."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = []
    for row in rows:
        pairs = zip(row, widths, strict=True)
        cells = [cell.rjust(width) if right else cell.ljust(width) for cell, width in pairs]
        lines.append("  ".join(cells).rstrip())
    return tuple(lines)


def _from_to(old: str | None, new: str | None) -> str:
    return f"{old} → {new}" if old and old != new else str(new)


def _took(began: datetime | None, ended: datetime) -> str:
    return format_duration(round((ended - began).total_seconds())) if began else "-"


def _at(time: datetime) -> str:
    return f"{time.astimezone():%Y-%m-%d %H:%M:%S}"


def _labelled(label: str, *words: Word) -> Line:
    return ((f"  {label.ljust(LABEL)} ", "dim"), *words)


def plain(lines: Sequence[Line]) -> str:
    """Return the lines as text, for logs and pipes."""
    return "".join("".join(text for text, _ in line).rstrip() + "\n" for line in lines)
