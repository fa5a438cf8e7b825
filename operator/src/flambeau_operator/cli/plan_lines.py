"""What an edit would change, drawn as lines of styled words and written as JSON."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from flambeau_operator.cli.rollout_lines import Line
from flambeau_operator.cli.trial_report import Trialled, trial_lines, trial_to_json
from flambeau_operator.plan.edit_costs import Cost, FieldChange
from flambeau_operator.plan.foresight import BY_NEW_PODS, Foresight, ModelForesight
from flambeau_operator.plan.standing import Kind
from flambeau_operator.resources.quantities import format_duration
from flambeau_operator.resources.rollout import ALL, Step

WORDS: Final = {
    Cost.LIVE: "live in the pods",
    Cost.WORKERS_RESTART: "workers restart one by one",
    Cost.ROLLOUT: "a rollout",
    Cost.PODS_ROLL: "pods are replaced",
    Cost.SCALE: "pods come or go",
    Cost.AROUND: "pods stay as they are",
    Cost.RULES: "counts from the next decision on",
}
STYLES: Final = {Cost.ROLLOUT: "yellow", Cost.PODS_ROLL: "red", Cost.SCALE: "yellow"}
LONGEST_VALUE: Final = 48


@dataclass(frozen=True, slots=True)
class Planned:
    """What would follow for one ModelDeployment."""

    namespace: str
    name: str
    where: str | None  # what people call the place; None: there is none
    exists: bool
    foresight: Foresight
    refusal: str | None = None  # why the place would not take it
    trials: tuple[Trialled, ...] = ()  # what the candidates are like, where that was asked

    @property
    def differs(self) -> bool:
        """Whether applying it would change anything."""
        return not self.exists or bool(self.foresight.changes)


def plan_lines(planned: Planned) -> tuple[Line, ...]:
    """Draw what would follow."""
    place = planned.where or "no flambeau up serves it, and there is no kubeconfig"
    lines: list[Line] = [((planned.name, "bold"), (f"  {planned.namespace}, {place}", "dim"))]
    if planned.refusal:
        lines.append(((f"  would be refused: {planned.refusal}", "red"),))
    if not planned.exists:
        lines.append((("  new: every pod loads its models as it starts", ""),))
    elif not planned.differs:
        lines.append((("  nothing changes", "green"),))
    lines.extend(_changes(planned.foresight.changes))
    for model in planned.foresight.models:
        lines.extend(_model(model))
    if planned.exists and planned.differs:
        lines.append(_pods(planned.foresight))
    for trial in planned.trials:
        lines.extend(trial_lines(trial))
    return tuple(lines)


def _changes(changes: tuple[FieldChange, ...]) -> Iterator[Line]:
    rows = [(each.name, f"{_short(each.old)} → {_short(each.new)}") for each in changes]
    names = max((len(name) for name, _ in rows), default=0)
    values = max((len(value) for _, value in rows), default=0)
    for change, (name, value) in zip(changes, rows, strict=True):
        yield (
            (f"  ~ {name.ljust(names)}  {value.ljust(values)}  ", ""),
            (WORDS[change.cost], STYLES.get(change.cost, "green")),
        )


def _short(value: object) -> str:
    """Return a value in a few words."""
    if value is None:
        return "(none)"
    text = value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= LONGEST_VALUE else f"{text[: LONGEST_VALUE - 1]}…"


def _model(model: ModelForesight) -> Iterator[Line]:
    if model.rolls:
        versions = _versions(model)
        yield ((f"  rollout of {model.name}  {versions}", "bold"), (f"  {model.hash}", "dim"))
        mode = model.mode or "none"
        yield (
            ("    mode   ", "dim"),
            (f"{mode}: {model.mode_reason}", "" if model.mode else "red"),
        )
        yield (("    steps  ", "dim"), (_steps(model), ""))
    if model.note:
        bad = model.kind in {Kind.REUSED, Kind.REMEMBERED}
        yield (("    note   " if model.rolls else "  ", "dim"), (model.note, "red" if bad else ""))


def _versions(model: ModelForesight) -> str:
    if model.beside:
        return f"{model.active} + {model.target}"
    return f"{model.active} → {model.target}" if model.active else model.target


def _steps(model: ModelForesight) -> str:
    if model.mode == BY_NEW_PODS:
        return "none: new pods take over, and an old one goes when a new one is ready"
    if not model.steps:
        return "none: committed as soon as every pod has it ready"
    steps = ", ".join(_step(each) for each in model.steps)
    steps = steps if model.steps[-1].weight == ALL else f"{steps}, {ALL} %"
    return f"{steps}: at least {format_duration(model.at_least_s)} once the pods have it ready"


def _step(step: Step) -> str:
    pause = f" for {format_duration(step.pause_s)}" if step.pause_s else ""
    shadow = f" + {step.shadow} % copied" if step.shadow else ""
    return f"{step.weight} %{shadow}{pause}"


def _pods(foresight: Foresight) -> Line:
    if fields := foresight.pods_roll_for:
        return (("  pods   ", "dim"), (f"are replaced, for {', '.join(fields)}", "red"))
    if any(each.cost is Cost.SCALE for each in foresight.changes):
        return (("  pods   ", "dim"), ("come or go; those that stay are not restarted", "yellow"))
    return (("  pods   ", "dim"), ("stay as they are", "green"))


def plan_to_json(planned: Planned) -> dict[str, Any]:
    """Write what would follow; docs/releases.md promises these names to programs."""
    foresight = planned.foresight
    return {
        "namespace": planned.namespace,
        "name": planned.name,
        "where": planned.where,
        "exists": planned.exists,
        "differs": planned.differs,
        "refusal": planned.refusal,
        "changes": [
            {"path": each.name, "old": each.old, "new": each.new, "cost": str(each.cost)}
            for each in foresight.changes
        ],
        "podsRoll": bool(foresight.pods_roll_for),
        "podsRollFor": list(foresight.pods_roll_for),
        "models": [_model_to_json(each) for each in foresight.models],
        "leaving": list(foresight.leaving),
        "trials": [trial_to_json(each) for each in planned.trials],
    }


def _model_to_json(model: ModelForesight) -> dict[str, Any]:
    return {
        "name": model.name,
        "rollout": model.rolls,
        "beside": model.beside,
        "kind": str(model.kind),
        "activeVersion": model.active,
        "targetVersion": model.target,
        "candidateHash": model.hash,
        "mode": model.mode,
        "modeReason": model.mode_reason,
        "steps": [
            {"weight": each.weight, "shadow": each.shadow, "pauseSeconds": each.pause_s}
            for each in model.steps
        ],
        "atLeastSeconds": model.at_least_s,
        "note": model.note,
    }
