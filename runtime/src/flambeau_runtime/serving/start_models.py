"""The models that are served from the start: a snapshot's, or what `load_models` names."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

from flambeau_runtime.archive.store import Store
from flambeau_runtime.errors import RuntimeFault
from flambeau_runtime.serving import edits, registration
from flambeau_runtime.serving.catalogue import Catalogue
from flambeau_runtime.serving.converge import Converger
from flambeau_runtime.serving.cpu_share import usable_cpus
from flambeau_runtime.serving.desired import VersionSpec
from flambeau_runtime.serving.registration import Asked
from flambeau_runtime.serving.snapshot import restored
from flambeau_runtime.serving.steps import Key, Stage
from flambeau_runtime.settings import ModelDefaults, Settings

log = logging.getLogger(__name__)

ARCHIVES = (".mar", ".tar.gz", ".tgz", ".model")
ON_THEIR_WAY = frozenset({Stage.FETCHING, Stage.FETCHED})
LOOK_AGAIN_S = 1.0


def named_archives(settings: Settings) -> tuple[tuple[str | None, str], ...]:
    """Return (name or None, archive) of every model to load; `all` stands for the model store."""
    return tuple(
        found
        for name, archive in settings.load_models
        for found in (
            ((None, each) for each in _everything_in(settings.model_store))
            if archive == "all"
            else ((name, archive),)
        )
    )


def _everything_in(model_store: Path | None) -> Iterator[str]:
    if model_store is None:
        return
    for path in sorted(model_store.iterdir()):
        hidden = path.name.startswith(".")
        if not hidden and (path.is_dir() or path.name.endswith(ARCHIVES)):
            yield path.name


def workers_at_start(settings: Settings) -> int:
    """Return how many workers a start-up model gets: as told, else one per device or CPU."""
    return settings.workers_per_model or len(settings.devices) or max(1, int(usable_cpus()))


def has_start_models(settings: Settings) -> bool:
    """Return whether anything is served from the start."""
    return bool(settings.load_models if settings.snapshot is None else settings.snapshot)


def count_start_workers(settings: Settings) -> int:
    """Return how many workers there will be from the start, as far as the settings can tell."""
    if settings.snapshot is None:
        return len(settings.load_models) * workers_at_start(settings)
    return sum(saved.min_workers or 0 for saved in settings.snapshot)


class StartModels:
    """Asks for every start-up model; one that cannot be served is logged and keeps nobody waiting.

    `keys` are the versions asked for so far; what a snapshot restores is none of them, as in
    TorchServe.
    """

    def __init__(
        self, settings: Settings, store: Store, catalogue: Catalogue, converger: Converger
    ) -> None:
        self.keys: set[Key] = set()
        self._wanted: set[Key] = set()
        self._settings = settings
        self._store = store
        self._catalogue = catalogue
        self._converger = converger

    async def ask_for_all(self) -> None:
        """Return when each has a queue that takes requests, or has failed."""
        snapshot = self._settings.snapshot
        if snapshot is None:
            for name, archive in named_archives(self._settings):
                await self._ask_for(name, archive)
        else:
            for saved in snapshot:
                await self._restore(saved)
        while any(self._is_on_its_way(key) for key in self._wanted):
            revision = self._catalogue.revision
            await self._catalogue.wait_changed(revision, LOOK_AGAIN_S)

    async def _ask_for(self, name: str | None, archive: str) -> None:
        asked = Asked(
            url=archive, model=name, workers=workers_at_start(self._settings), at_startup=True
        )
        try:
            spec = await registration.prepare(asked, self._store, self._settings)
            self._want(spec)
        except RuntimeFault as fault:
            log.error("model not loaded", extra={"archive": archive, "why": str(fault)})  # noqa: TRY400  a sentence tells more than our own stack

    async def _restore(self, saved: ModelDefaults) -> None:
        archive = saved.archive or ""
        asked = Asked(url=archive, model=saved.model)
        try:
            spec = await registration.prepare(asked, self._store, self._settings)
            self._want(restored(spec, saved), saved)
        except RuntimeFault as fault:
            log.error("model not restored", extra={"archive": archive, "why": str(fault)})  # noqa: TRY400  a sentence tells more than our own stack

    def _want(self, spec: VersionSpec, saved: ModelDefaults | None = None) -> None:
        key = spec.model, spec.version
        wanted = edits.with_version(self._catalogue.wanted, spec)
        is_default = self._is_declared_default(spec) if saved is None else saved.is_default
        if is_default:
            wanted = edits.with_default(wanted, spec.model, spec.version)
        if saved is None:
            self._catalogue.at_start.add(spec.model)
            self.keys.add(key)
        self._converger.want(wanted)
        self._wanted.add(key)

    def _is_declared_default(self, spec: VersionSpec) -> bool:
        return any(
            known.is_default and (known.model, known.version) == (spec.model, spec.version)
            for known in self._settings.model_defaults
        )

    def _is_on_its_way(self, key: Key) -> bool:
        entry = self._catalogue.entries.get(key)
        return entry is None or entry.stage() in ON_THEIR_WAY
