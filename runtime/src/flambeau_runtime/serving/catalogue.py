"""Which models and versions are wanted, which exist, and which of them takes a request.

The converger writes here, everybody reads. The revision grows whenever something changes that an
observer could see, except counters; long polls wait for it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

from flambeau_runtime.errors import (
    BadRequest,
    FieldProblem,
    ModelNotFound,
    ModelNotReady,
    RuntimeFault,
    VersionNotFound,
)
from flambeau_runtime.serving.arena import Arena
from flambeau_runtime.serving.desired import Document, ModelSpec, VersionSpec
from flambeau_runtime.serving.entry import Entry
from flambeau_runtime.serving.live_version import LiveVersion
from flambeau_runtime.serving.observed import (
    ModelReport,
    Phase,
    Report,
    VersionReport,
    WorkerCounts,
)
from flambeau_runtime.serving.routing import Routed, Routing, Standing
from flambeau_runtime.serving.steps import (
    ARRIVED,
    Facts,
    Key,
    Stage,
    VersionFacts,
    same_content,
)
from flambeau_runtime.serving.traffic import Split
from flambeau_runtime.serving.windows import Present, Window, Windows

NO_WORKERS = WorkerCounts()
STARTING = "is not known yet: this runtime does not know all of its models before it has started."


NOT_READY = {
    Phase.PENDING: "waits to be loaded.",
    Phase.FETCHING: "is being fetched.",
    Phase.VERIFYING: "is being verified.",
    Phase.LOADING: "is being loaded.",
    Phase.WARMING: "is being warmed up.",
    Phase.DRAINING: "is being unloaded and will be loaded again.",
}


class Catalogue:
    """The wish, the versions that exist, and the way from a request to one of them.

    Attributes:
        wanted: replaced as a whole, by `Converger.want`.
        entries: every version that was begun and is not gone yet.
        defaults: per model the version that answers requests which name none.
        at_start: the models that were asked for when the runtime started.
        draining: this runtime shall get no more requests.
        cautious: it has booted, and gives no candidate a weight until it is told what to do.
        leaving: models for whose swap this runtime is not ready, and until when (loop's time) it
            answers all the same.
        revision: grows with every change that an observer can see.
    """

    def __init__(self, *, waits_for_document: bool = False) -> None:
        """Begin empty.

        Args:
            waits_for_document: not ready before the first document (a managed runtime), or
                before `begin` (one that is asked for its start-up models).
        """
        self.wanted = Document()
        self.entries: dict[Key, Entry] = {}
        self.defaults: dict[str, str] = {}
        self.at_start: set[str] = set()
        self.draining = False
        self.cautious = False
        self.leaving: dict[str, float] = {}
        self.revision = 1
        self._waits_for_document = waits_for_document
        self._closed = False
        self._changed = asyncio.Event()
        self._by_default: dict[str | None, Routed] = {}
        self._by_version: dict[tuple[str | None, str], Routed] = {}
        self._splits: dict[str | None, Split[Routed]] = {}
        self._weights: dict[Key, int] = {}
        self._routing = Routing()
        self._windows = Windows()
        self._seen = (self.wanted, self.report())

    def route(
        self,
        name: str | None,
        version: str | None = None,
        headers: bytes | None = None,
        arena: Arena | None = None,
    ) -> Routed:
        r"""Return the version that takes a request; a named version is never replaced.

        Without a name it is of the one model there was at the start, if there was just one.

        Args:
            name: of the model.
            version: None: whichever the model's weights say.
            headers: of the request, `b"\r\nName: value"` each, for callers that keep their version;
                None: it is no request, and the default version stands for all.
            arena: where the request's body lies already, because it was routed before.

        Raises:
            BadRequest: no model is named, and there is not just one.
            ModelNotFound: no such model.
            VersionNotFound: no such version of it; the error names those that live.
            ModelNotReady: it is on its way, or failed.
        """
        if version is not None:
            live = self._by_version.get((name, version))
        else:
            live = self._by_default.get(name)
            # A model of which several versions take requests is not among those.
            if live is None and (split := self._splits.get(name)) is not None:
                live = split.pick(headers, arena)
        if live is None:
            raise self._why_nothing_answers(name, version)
        return live

    def live(self, name: str, version: str) -> LiveVersion | None:
        """Return the version's workers and numbers if it has any, in traffic or not."""
        entry = self.entries.get((name, version))
        return None if entry is None else entry.live

    def lives(self) -> Iterator[LiveVersion]:
        """Yield every version that has a queue and workers, draining ones included."""
        for entry in self.entries.values():
            if entry.live is not None:
                yield entry.live

    def is_failing(self, name: str, version: str) -> bool:
        """Return whether a version failed when it was tried last, though it may be tried again."""
        entry = self.entries.get((name, version))
        return entry is not None and entry.failure is not None and entry.spec.workers > 0

    def default_of(self, name: str) -> str | None:
        """Return the version that answers now, or else the one that is wanted to."""
        current = self.defaults.get(name)
        if current is not None:
            return current
        model = self.model(name)
        return None if model is None else model.default

    def model(self, name: str) -> ModelSpec | None:
        """Return what is wanted of a model."""
        return next((model for model in self.wanted.models if model.name == name), None)

    def facts(self, now: float, *, cautious: bool = False) -> Facts:
        """Return what the plan looks at; `now` is the loop's time."""
        versions = {
            key: VersionFacts(
                stage=entry.stage(),
                spec=entry.spec,
                digest=None if entry.package is None else entry.package.digest,
                retry_due=entry.failed and entry.retry_at <= now,
            )
            for key, entry in self.entries.items()
        }
        leaving = {name: until <= now for name, until in self.leaving.items()}
        return Facts(versions, dict(self.defaults), cautious, leaving)

    def conflicts(self, document: Document) -> tuple[FieldProblem, ...]:
        """Return the fields that would put other content under a version which serves now."""
        return tuple(
            problem
            for i, model in enumerate(document.models)
            for j, spec in enumerate(model.versions)
            if (problem := self._conflict(spec, f"models[{i}].versions[{j}].source")) is not None
        )

    def _conflict(self, spec: VersionSpec, path: str) -> FieldProblem | None:
        entry = self.entries.get((spec.model, spec.version))
        if entry is None or entry.stage() not in ARRIVED:
            return None
        digest = None if entry.package is None else entry.package.digest
        if same_content(spec.source, entry.spec.source, digest):
            return None
        field = "uri" if spec.source.digest is None else "digest"
        present = entry.spec.source.uri if field == "uri" else digest
        return FieldProblem(
            f"{path}.{field}",
            f"version {spec.version} of {spec.model} serves {present}; "
            "other content needs another version",
        )

    def begin(self) -> None:
        """Be ready from now on as soon as what is wanted is: the start-up models are wanted."""
        self._waits_for_document = False
        self.touch()

    def start_draining(self) -> None:
        """Stop being ready; everything that is asked is still answered."""
        self.draining = True
        self.touch()

    def close(self) -> None:
        """Let every long poll answer now, and no later one wait."""
        self._closed = True
        self._announce()

    def touch(self) -> None:
        """Take note that something may have changed: renew routes, and the revision if it shows."""
        self._route_anew()
        self._windows.follow(self.wanted, self._present())
        self.note_progress()

    def _route_anew(self) -> None:
        takers: dict[str, dict[str, LiveVersion]] = {}
        for (name, version), entry in self.entries.items():
            if entry.live is not None and entry.takes_work():
                takers.setdefault(name, {})[version] = entry.live
        self._by_default, self._by_version, self._splits, self._weights = {}, {}, {}, {}
        for name, versions in takers.items():
            self._by_version.update({(name, version): it for version, it in versions.items()})
        for name in {*self.defaults, *(model.name for model in self.wanted.models)}:
            self._route_model(name, takers.get(name, {}))
        self._routing.forget(takers)
        self._silence_shadows()
        lone = self._lone_model() or ""
        if lone in self._by_default:
            self._by_default[None] = self._by_default[lone]
        if lone in self._splits:
            self._splits[None] = self._splits[lone]

    def _route_model(self, name: str, takers: dict[str, LiveVersion]) -> None:
        model = self.model(name) or ModelSpec(name, None, ())
        default = self.default_of(name)
        ready = {version for version in takers if self._is_ready((name, version))}
        routes = self._routing.routes(Standing(model, default, takers, ready, self.cautious))
        self._weights.update({(name, it): weight for it, weight in routes.weights.items()})
        if routes.split is not None:
            self._splits[name] = routes.split
        elif routes.default is not None:
            self._by_default[name] = routes.default
        if routes.default is not None and default is not None:
            self._by_version[name, default] = routes.default

    def _is_ready(self, key: Key) -> bool:
        entry = self.entries[key]
        live = entry.live
        return live is not None and entry.stage() is Stage.SERVING and live.counts().ready > 0

    def _silence_shadows(self) -> None:
        """Have those that only listen leave no traces, and let what answers go first."""
        shadows = {
            (model.name, model.shadow.version)
            for model in self.wanted.models
            if model.shadow is not None
        }
        for key, entry in self.entries.items():
            if entry.live is not None:
                entry.live.listen(only=key in shadows and not self._weights.get(key))

    def _present(self) -> dict[Key, Present]:
        return {
            key: Present(entry.live.counters, entry.live.counts().restarts, self._is_ready(key))
            for key, entry in self.entries.items()
            if entry.live is not None
        }

    def window(self, name: str, version: str) -> Window | None:
        """Return a version's counts since its model's window began; None: it has none."""
        return self._windows.of((name, version))

    def weight(self, name: str, version: str) -> int:
        """Return the share, in percent, of the requests that name no version."""
        return self._weights.get((name, version), 0)

    def _lone_model(self) -> str | None:
        """Return the one model there was at the start; None when there were none or several."""
        owned = {model.name for model in self.wanted.models if self.wanted.owner is not None}
        names = self.at_start or owned
        return next(iter(names)) if len(names) == 1 else None

    def note_progress(self) -> None:
        """Raise the revision if an observer can see a difference since it was raised last."""
        seen = (self.wanted, self.report())
        if seen != self._seen:
            self._seen = seen
            self._announce()

    def _announce(self) -> None:
        self.revision += 1
        self._changed.set()
        self._changed = asyncio.Event()

    async def wait_changed(self, after: int, timeout_s: float) -> bool:
        """Wait until the revision differs from `after`; return whether it does."""
        try:
            async with asyncio.timeout(timeout_s):
                while self.revision == after and not self._closed:
                    await self._changed.wait()
        except TimeoutError:
            pass
        return self.revision != after

    def report(self) -> Report:
        """Return what an observer can see now, without counters."""
        models = tuple(self._model_report(name) for name in self._names())
        started = not self._waits_for_document or self.wanted.owner is not None
        stays = not self.draining and not self.leaving
        ready = started and stays and all(map(self._lets_traffic_in, models))
        return Report(ready, self.draining, models, self.cautious)

    def _names(self) -> list[str]:
        names = [model.name for model in self.wanted.models]
        leaving = {name for name, _ in self.entries} - set(names)
        return [*names, *sorted(leaving)]

    def _lets_traffic_in(self, report: ModelReport) -> bool:
        return report.ready or not report.required or self._rests(report.name)

    def _rests(self, name: str) -> bool:
        """Return whether the model is wanted without workers: nothing to wait for."""
        model = self.model(name)
        return model is not None and any(
            spec.workers == 0 for spec in model.versions if spec.version == model.default
        )

    def _model_report(self, name: str) -> ModelReport:
        model = self.model(name)
        wanted = () if model is None else tuple(spec.version for spec in model.versions)
        leaving = [
            version for key, version in self.entries if key == name and version not in wanted
        ]
        return ModelReport(
            name=name,
            required=model is not None and model.required,
            default=self.defaults.get(name),
            ready=self._answers(name),
            versions=tuple(self._version_report(name, it) for it in (*wanted, *leaving)),
        )

    def _answers(self, name: str) -> bool:
        """Return whether the model's default version is warm and has a worker."""
        entry = self.entries.get((name, self.defaults.get(name, "")))
        return (
            entry is not None
            and entry.live is not None
            and entry.stage() is Stage.SERVING
            and entry.live.counts().ready > 0
        )

    def _version_report(self, name: str, version: str) -> VersionReport:
        entry = self.entries.get((name, version))
        if entry is None:
            return VersionReport(version, Phase.PENDING, 0, NO_WORKERS, None, None, 0, None)
        package, live = entry.package, entry.live
        waits = self.defaults.get(name) != version and self.default_of(name) == version
        return VersionReport(
            version=version,
            phase=entry.phase(),
            weight=0 if waits else self.weight(name, version),
            workers=NO_WORKERS if live is None else live.counts(),
            digest=None if package is None else package.digest,
            bytes=entry.total_bytes if package is None else package.size_bytes,
            fetched_bytes=entry.fetched_bytes,
            last_failure=entry.failure or (None if live is None else live.last_failure()),
        )

    def _why_nothing_answers(self, name: str | None, version: str | None) -> RuntimeFault:
        name = self._lone_model() if name is None else name
        if name is None:
            return BadRequest("Parameter model_name is required.")
        model = self.model(name)
        present = [known for key, known in self._by_version if key == name]
        if model is None and not present:
            if self._waits_for_document and self.wanted.owner is None:
                return ModelNotReady(name, version or "default", STARTING)
            return ModelNotFound(name)
        chosen = self.default_of(name) if version is None else version
        if chosen is None:
            return ModelNotReady(
                name, "default", f"does not exist; name one of: {', '.join(present) or 'none yet'}."
            )
        wanted = () if model is None else tuple(spec.version for spec in model.versions)
        if chosen not in wanted:
            return VersionNotFound(name, chosen)
        return ModelNotReady(name, chosen, self._why_not_yet(name, chosen))

    def _why_not_yet(self, name: str, version: str) -> str:
        report = self._version_report(name, version)
        if report.phase is Phase.FAILED and report.last_failure is not None:
            return f"failed ({report.last_failure.reason}): {report.last_failure.message}"
        return NOT_READY.get(report.phase, "cannot answer now.")
