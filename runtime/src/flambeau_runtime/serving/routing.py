"""From what is wanted of a model and what is there of it to who takes its requests."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from flambeau_runtime.serving.desired import ModelSpec
from flambeau_runtime.serving.live_version import LiveVersion
from flambeau_runtime.serving.shadow import Mirror, Shadowed
from flambeau_runtime.serving.traffic import ALL, Chance, Split, lay_out, weights_of

Routed = LiveVersion | Shadowed


@dataclass(frozen=True, slots=True)
class Standing:
    """One model now.

    `default` answers requests that name no version. `takers` may be given requests; `ready` are
    those that have served and have a worker. `cautious`: this runtime has booted and was not told
    anything since, so nothing but defaults gets requests that do not name it.
    """

    model: ModelSpec
    default: str | None
    takers: Mapping[str, LiveVersion]
    ready: Collection[str]
    cautious: bool = False


@dataclass(frozen=True, slots=True)
class ModelRoutes:
    """Who takes the requests of one model: `split` decides where it is there, else `default`.

    `weights` are in percent, of the versions that take requests now.
    """

    default: Routed | None
    split: Split[Routed] | None = None
    weights: Mapping[str, int] = field(default_factory=dict)


class Routing:
    """Makes the routes of models, and keeps what goes on while they change."""

    def __init__(self) -> None:
        self._chances: dict[str, Chance] = {}
        self._mirrors: dict[str, Mirror] = {}

    def routes(self, standing: Standing) -> ModelRoutes:
        """Return who takes the requests of a model now."""
        name, model = standing.model.name, standing.model
        live = None if standing.default is None else standing.takers.get(standing.default)
        default = live if live is None else self._shadowed(live, standing)
        shares = () if standing.cautious else lay_out(weights_of(model))
        parts = [
            (share, standing.takers[share.version])
            for share in shares
            if share.version in standing.ready and share.version in standing.takers
        ]
        weights: dict[str, int] = {
            share.version: round(share.high - share.low) for share, _ in parts
        }
        if standing.default is not None and live is not None:
            rest = ALL - sum(weights.values())
            weights[standing.default] = weights.get(standing.default, 0) + rest
        stateful = [it for it in standing.takers.values() if it.mode.sequences is not None]
        if not parts and len(stateful) < 2:  # noqa: PLR2004  there is nothing to choose
            return ModelRoutes(default, None, weights)
        chance = self._chances.setdefault(name, Chance())
        split = Split[Routed](name, default, parts, chance, model.sticky, stateful)
        return ModelRoutes(default, split, weights)

    def _shadowed(self, live: LiveVersion, standing: Standing) -> Routed:
        """Return a default version, with a shadow if the model has one that is ready."""
        wish = standing.model.shadow
        if wish is None or standing.cautious or wish.version not in standing.ready:
            return live
        shadow = standing.takers.get(wish.version)
        if shadow is None or shadow is live:
            return live
        if live.mode.sequences is not None or shadow.mode.sequences is not None:
            return live  # one copy that is dropped would leave a state that is nobody's
        mirror = self._mirrors.setdefault(standing.model.name, Mirror())
        mirror.aim(shadow, wish)
        return Shadowed(live, mirror)

    def forget(self, present: Collection[str]) -> None:
        """Let go of models that are not there any more."""
        for known in (self._chances, self._mirrors):
            for name in [name for name in known if name not in present]:
                del known[name]
