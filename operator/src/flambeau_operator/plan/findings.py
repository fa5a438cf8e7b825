"""Everything one pass has found out and decided: what the report is written from."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from flambeau_operator.plan.checks import Violation
from flambeau_operator.plan.decision import Act, Decision
from flambeau_operator.plan.fleet import Fleet
from flambeau_operator.plan.ownership import conflict_name
from flambeau_operator.plan.standing import Kind, Standing
from flambeau_operator.resources.model_deployment import ModelDeployment
from flambeau_operator.resources.observed import ChildrenFacts, PodFacts
from flambeau_operator.resources.pod_state import (
    ModelEntry,
    VersionEntry,
    VersionPhase,
    VersionState,
)


@dataclass(frozen=True, slots=True)
class Findings:
    """One pass, decided."""

    deployment: ModelDeployment
    fleet: Fleet
    standings: tuple[Standing, ...]
    others: tuple[Standing, ...]  # of the versions of splits and shadows
    decision: Decision | None  # about the one model that rolls, if one does
    reverts: tuple[Decision, ...]  # models that go back to the version before
    committed: tuple[ModelEntry, ...]  # as it is after this pass
    writes: bool  # whether this pass commits something or PUTs a document
    hands_off: bool  # no pod answers: nothing is changed
    observe_only: bool  # by the user's annotation: nothing is changed
    violation: Violation | None
    pods_wanted: int  # how many pods shall run
    children: ChildrenFacts
    now: datetime

    @property
    def suspended(self) -> bool:
        """Whether nothing shall run, and that is brought about."""
        return self.deployment.spec.suspend and not self.observe_only

    @property
    def ready_pods(self) -> int:
        """How many pods serve every required model."""
        return sum(pod.ready for pod in self.fleet.present)

    def about(self, standing: Standing) -> Decision | None:
        """Return what was decided about this model, if it is one that moves."""
        known = [*self.reverts, *([self.decision] if self.decision else ())]
        return next((each for each in known if each.standing.name == standing.name), None)

    def act(self, standing: Standing) -> Act | None:
        """Return what this model does in this pass, if it is one that moves."""
        decision = self.about(standing)
        return decision.act if decision else None

    def model(self, standing: Standing) -> ModelEntry | None:
        """Return what is committed of a model, as it is after this pass."""
        return next((each for each in self.committed if each.name == standing.name), None)

    def active(self, standing: Standing) -> VersionEntry | None:
        """Return the committed entry of a model, as it is after this pass."""
        model = self.model(standing)
        return model.version(model.default) if model else None

    def serves_everywhere(self, standing: Standing) -> bool:
        """Tell whether every pod answers with the version that the spec names."""
        active, target = self.active(standing), standing.target
        if active is None or spec_of(active) != spec_of(target):
            return False
        return all(
            (seen := pod.seen(standing.name, active.version)) is not None
            and seen.phase is VersionPhase.READY
            and pod.default(standing.name) == active.version
            and has_its_workers(seen, active)
            for pod in self.fleet.reporters
        )

    @property
    def rolled_out(self) -> bool:
        """Whether this generation's versions and settings are in every pod, and all are asked."""
        everywhere = all(self.serves_everywhere(each) for each in self.standings)
        everywhere = everywhere and all(each.kind is Kind.SETTLED for each in self.others)
        all_here = self.fleet.settled and self.ready_pods >= self.pods_wanted
        complete = (all_here and not self.children.rolling) or self.pods_wanted == 0
        return complete and everywhere and not self.writes and not self.hands_off

    @property
    def troubled(self) -> tuple[PodFacts, ...]:
        """The pods that should run and do not, and somebody said why."""
        return tuple(pod for pod in self.fleet.pods if pod.trouble and not pod.terminating)

    @property
    def service_is_foreign(self) -> bool:
        """Whether the address of the predictions belongs to somebody else."""
        return conflict_name("Service", self.deployment.metadata.name) in self.children.conflicts

    @property
    def moving(self) -> Decision | None:
        """The rollout that is under way, or waits for something; not one that is taken back."""
        going_back = self.decision is not None and self.decision.act is Act.ROLL_BACK
        return None if going_back else self.decision

    @property
    def taken_back(self) -> tuple[Standing, ...]:
        """The models whose target failed and is not tried again by itself."""
        return tuple(
            each for each in self.standings if each.kind is Kind.REMEMBERED or self._goes_back(each)
        )

    def _goes_back(self, standing: Standing) -> bool:
        decision = self.about(standing)
        back = decision is not None and decision.act in {Act.ROLL_BACK, Act.REVERT}
        return back and decision is not None and not decision.standing.beside

    @property
    def refused_others(self) -> tuple[Standing, ...]:
        """The versions of splits and shadows that failed and are not tried again by themselves."""
        decision = self.decision
        back = decision.standing if decision and decision.act is Act.ROLL_BACK else None
        return tuple(
            each
            for each in self.others
            if each.kind is Kind.REMEMBERED or (back is not None and back is each)
        )


def has_its_workers(seen: VersionState, entry: VersionEntry) -> bool:
    """Tell whether as many workers are ready as are wanted, and none comes or is replaced."""
    if entry.max_workers is not None:
        return seen.workers.ready >= entry.workers  # the pod itself says how many more
    return seen.workers.ready == entry.workers and not seen.workers.starting


def spec_of(entry: VersionEntry) -> tuple[str, str, str | None]:
    """Return what makes a version what it is."""
    return entry.version, entry.source.uri, entry.source.digest
