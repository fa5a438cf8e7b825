"""The rollouts of a model that have ended."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal

from flambeau_operator.plan.decision import Act, Decision
from flambeau_operator.plan.findings import Findings
from flambeau_operator.plan.standing import Kind, Standing
from flambeau_operator.resources.deployment_status import Past

MOST_PAST: Final = 10
LONGEST_WORDS: Final = 512  # characters
OUTCOMES: Mapping[Act, Literal["Promoted", "RolledBack"]] = {
    Act.COMMIT: "Promoted",
    Act.ROLL_BACK: "RolledBack",
    Act.REVERT: "RolledBack",
}


def history(standing: Standing, findings: Findings) -> tuple[Past, ...]:
    """Return the rollouts that have ended, newest first."""
    before, decision = standing.before, findings.about(standing)
    ended = _ended(standing, decision, findings)
    if ended and before.history and before.rollout.spec_hash is None:
        # Told already, by a pass that did not live to bring it about.
        told, now = before.history[0], ended[0]
        if (told.spec_hash, told.outcome) == (now.spec_hash, now.outcome):
            ended = ()
    return (*ended, *before.history)[:MOST_PAST]


def _ended(standing: Standing, decision: Decision | None, findings: Findings) -> tuple[Past, ...]:
    before = standing.before.rollout
    own = decision is not None and not decision.standing.beside
    if own and decision is not None and decision.act in OUTCOMES:
        replaced = before.previous_version if decision.act is Act.REVERT else None
        return (
            Past(
                version=standing.target.version,
                from_version=replaced or (standing.active.version if standing.active else None),
                spec_hash=standing.hash,
                outcome=OUTCOMES[decision.act],
                mode=before.mode if before.mode == "RollingPods" else decision.mode.value,
                started_at=before.started_at if before.spec_hash == standing.hash else None,
                ended_at=findings.now,
                message=_last_words(decision),
            ),
        )
    by_new_pods = before.mode == "RollingPods" and before.spec_hash == standing.hash
    if by_new_pods and decision is None and standing.kind is Kind.SETTLED:
        return (
            Past(
                version=standing.target.version,
                from_version=before.previous_version,
                spec_hash=standing.hash,
                outcome="Promoted",
                mode=before.mode,
                started_at=before.started_at,
                ended_at=findings.now,
            ),
        )
    if before.spec_hash is None or (decision and decision.standing.hash == before.spec_hash):
        return ()
    known = standing.before.target_version
    if known is None or known == standing.target.version or findings.hands_off:
        return ()
    active = standing.active.version if standing.active else None
    return (
        Past(
            version=known,
            from_version=active,
            spec_hash=before.spec_hash,
            outcome="Superseded",
            mode=before.mode,
            started_at=before.started_at,
            ended_at=findings.now,
            message=f"the spec names {standing.target.version} now",
        ),
    )


def _last_words(decision: Decision) -> str:
    if decision.failure:
        return f"{decision.failure.reason}: {decision.failure.message}"[:LONGEST_WORDS]
    analysis = decision.canary.analysis if decision.canary else None
    return analysis.message[:LONGEST_WORDS] if analysis else ""
