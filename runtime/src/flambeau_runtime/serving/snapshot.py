"""What a snapshot of TorchServe says about a version: it goes before all that its archive says."""

from __future__ import annotations

from dataclasses import replace
from typing import TypeVar

from flambeau_runtime.serving.desired import Batching, Timeouts, VersionSpec
from flambeau_runtime.settings import ModelDefaults

T = TypeVar("T")


def restored(spec: VersionSpec, saved: ModelDefaults) -> VersionSpec:
    """Return the version as it was when the snapshot was taken; what it does not say stays."""
    return replace(
        spec,
        workers=_or(saved.min_workers, spec.workers),
        max_workers=_or(saved.max_workers, spec.max_workers),
        batching=Batching(
            _or(saved.batch_size, spec.batching.max_size),
            _or(saved.max_batch_delay_s, spec.batching.max_delay_s),
        ),
        timeouts=Timeouts(
            _or(saved.response_timeout_s, spec.timeouts.response_s),
            _or(saved.startup_timeout_s, spec.timeouts.startup_s),
        ),
    )


def _or(saved: T | None, otherwise: T) -> T:
    return otherwise if saved is None else saved
