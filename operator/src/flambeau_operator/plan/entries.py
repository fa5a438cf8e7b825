"""What the spec asks of one version, and what makes two such wishes the same."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from flambeau_operator.plan.volumes import CLAIMS_FOLDER, CONFIG_MAPS_FOLDER
from flambeau_operator.resources.comparison import Comparison
from flambeau_operator.resources.model_deployment import Model
from flambeau_operator.resources.pod_state import (
    ShadowEntry,
    SourceEntry,
    StickyEntry,
    ToleranceEntry,
    VersionEntry,
    WarmupEntry,
)
from flambeau_operator.resources.quantities import bytes_of
from flambeau_operator.resources.source import Source

MOUNTED: Final[Mapping[str, str]] = {"configmap": CONFIG_MAPS_FOLDER, "pvc": CLAIMS_FOLDER}
"""Where pods find what a source's scheme names, below a folder of the object's name."""


def target_entry(model: Model) -> VersionEntry:
    """Return the entry that a pod's document shall have for this model's version."""
    return _entry(model, model.version, model.source)


def other_entries(model: Model) -> tuple[VersionEntry, ...]:
    """Return the entries of the versions beside it: those of a split, and a shadow."""
    split = model.split.versions if model.split else ()
    others = [replace(_entry(model, it.version, it.source), weight=it.weight) for it in split]
    named = {each.version for each in others}
    if model.shadow and model.shadow.version not in named:
        others.append(_entry(model, model.shadow.version, model.shadow.source))
    return tuple(others)


def sticky_entry(model: Model) -> StickyEntry | None:
    """Return what a caller is known by."""
    split = model.split
    if split is None or (split.sticky_header is None and split.sticky_cookie is None):
        return None
    return StickyEntry(header=split.sticky_header, cookie=split.sticky_cookie)


def shadow_entry(model: Model) -> ShadowEntry | None:
    """Return who gets copies of the model's requests, as the spec has it."""
    if model.shadow is None:
        return None
    return shadow_of(model.shadow.version, model.shadow.percent, model.shadow.compare)


def shadow_of(version: str, percent: int, compare: Comparison | None) -> ShadowEntry:
    """Return the entry of a shadow."""
    return ShadowEntry(
        version=version,
        percent=percent,
        tolerances=tuple(
            ToleranceEntry(each.path, each.absolute or 0.0, each.relative or 0.0)
            for each in (compare.tolerances if compare else ())
        ),
        ignore=compare.ignore if compare else (),
    )


def _entry(model: Model, version: str, source: Source) -> VersionEntry:
    workers = model.workers
    return VersionEntry(
        version=version,
        source=SourceEntry(
            uri=pod_uri(source.uri), digest=source.digest, credentials=source.credentials
        ),
        workers=workers.min,
        max_size=model.batching.max_size,
        max_delay_s=model.batching.max_delay_s,
        response_s=model.timeouts.response_s,
        startup_s=model.timeouts.startup_s,
        env=dict(model.handler.env),
        warmup=tuple(
            WarmupEntry(body=each.body, content_type=each.content_type, repeat=each.repeat)
            for each in model.warmup.requests
        ),
        # Where it says nothing new it is left out: documents of before stay as they are.
        max_workers=workers.max if workers.max != workers.min else None,
        worker_memory_bytes=bytes_of(workers.max_memory) if workers.max_memory else None,
    )


def pod_uri(uri: str) -> str:
    """Return the address under which a pod finds an archive: what is mounted is a file there."""
    scheme, _, rest = uri.partition("://")
    folder = MOUNTED.get(scheme)
    return f"file://{folder}/{rest}" if folder else uri


def spec_hash(entry: VersionEntry) -> str:
    """Identify a candidate: its version and source. What else changes is no rollout."""
    return _hash([entry.version, entry.source.uri, entry.source.digest])


def entry_hash(entry: VersionEntry) -> str:
    """Identify everything about a version that can make it fail.

    Workers are left out: they are the model's capacity, and more of them give a bad version no
    second chance.
    """
    return _hash(
        [
            # Not where there are none: what failed before this could be said is remembered.
            [entry.version, entry.source.uri, entry.source.digest, *_credentials(entry)],
            [entry.max_size, entry.max_delay_s, entry.response_s, entry.startup_s],
            sorted(entry.env.items()),
            [[each.body, each.content_type, each.repeat] for each in entry.warmup],
        ]
    )


def _credentials(entry: VersionEntry) -> list[str]:
    return [entry.source.credentials] if entry.source.credentials else []


def same_content(old: SourceEntry, resolved: str | None, new: SourceEntry) -> bool:
    """Tell whether two sources hold the same archive, as far as can be known.

    Args:
        old: where the archive came from.
        resolved: the digest that the pods found it to have, if they said.
        new: where it shall come from now.
    """
    known = old.digest or resolved
    if known and new.digest:
        return known == new.digest
    return old.uri == new.uri


def _hash(value: object) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:12]
