"""Every part of a runtime, built once and handed to whoever needs it."""

from __future__ import annotations

import os
from contextlib import AsyncExitStack
from dataclasses import dataclass

from flambeau_runtime.api import state
from flambeau_runtime.api.authorisation import Keys, make_keys
from flambeau_runtime.archive.environments import Environments
from flambeau_runtime.archive.store import Around, Store
from flambeau_runtime.serving.catalogue import Catalogue
from flambeau_runtime.serving.converge import Converger
from flambeau_runtime.serving.memory_meter import MemoryMeter
from flambeau_runtime.serving.start_models import (
    StartModels,
    count_start_workers,
    has_start_models,
)
from flambeau_runtime.serving.supervisor import Supervisor, without_hidden
from flambeau_runtime.serving.upkeep import Upkeep
from flambeau_runtime.settings import Settings
from flambeau_runtime.telemetry import Telemetry, VersionMetrics


@dataclass(frozen=True, slots=True)
class Parts:
    """What a runtime consists of."""

    settings: Settings
    telemetry: Telemetry
    catalogue: Catalogue
    store: Store
    supervisor: Supervisor
    memory_meter: MemoryMeter
    converger: Converger
    start_models: StartModels
    accepted: state.Documents | None
    keys: Keys | None


async def build(settings: Settings, telemetry: Telemetry, stack: AsyncExitStack) -> Parts:
    """Build the parts; the stack takes them down in the other order."""
    catalogue = Catalogue(
        waits_for_document=settings.managed is not None or has_start_models(settings)
    )
    telemetry.versions = lambda: _version_metrics(catalogue)
    store = _make_store(settings)
    supervisor = Supervisor(settings, telemetry)
    supervisor.expected_workers = count_start_workers(settings)
    await stack.enter_async_context(supervisor)
    meter = MemoryMeter(supervisor, settings.memory_limit_bytes, settings.devices)
    await stack.enter_async_context(Upkeep(catalogue, meter))
    converger = await stack.enter_async_context(
        Converger(
            catalogue,
            supervisor,
            store,
            swap_delay_s=settings.limits.swap_delay_s,
            shortage=meter.shortage,
        )
    )
    accepted = await _accept_documents(settings, converger, stack)
    keys = make_keys(settings)
    if keys is not None:
        stack.callback(keys.remove)
    start_models = StartModels(settings, store, catalogue, converger)
    return Parts(
        settings,
        telemetry,
        catalogue,
        store,
        supervisor,
        meter,
        converger,
        start_models,
        accepted,
        keys,
    )


def _make_store(settings: Settings) -> Store:
    root = (settings.cache_dir or settings.state_dir) / "archives"
    environments = Environments(
        root / "environments",
        without_hidden(os.environ, settings.hidden_env),
        install=settings.install_requirements,
    )
    return Store(
        root,
        settings.model_store,
        settings.allowed_urls,
        around=Around(
            shared=settings.cache_dir is not None, default_handler=settings.default_handler
        ),
        environments=environments,
    )


async def _accept_documents(
    settings: Settings, converger: Converger, stack: AsyncExitStack
) -> state.Documents | None:
    if settings.managed is None:
        return None
    # pydantic parses documents; a runtime that gets none does without it until it is managed.
    from flambeau_runtime.serving.accepted import AcceptedDocument  # noqa: PLC0415

    return await stack.enter_async_context(
        AcceptedDocument(settings.managed, settings.state_dir, settings.limits, converger)
    )


def _version_metrics(catalogue: Catalogue) -> list[VersionMetrics]:
    return [
        VersionMetrics(
            model=live.spec.model,
            version=live.spec.version,
            errors=live.counters.errors,
            latency=live.counters.latency.coarse(),
            queue=live.counters.queue,
            queue_wait_ms=0.0 if live.listens_only else live.queue_wait_s() * 1000,
            batch_ms=0.0 if live.listens_only else live.queue.policy.batch_s * 1000,
            workers=live.counts().ready,
            weight=catalogue.weight(live.spec.model, live.spec.version),
            copies=live.counters.copies if live.listens_only else None,
        )
        for live in catalogue.lives()
    ]
