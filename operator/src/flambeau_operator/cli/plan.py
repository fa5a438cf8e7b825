"""`flambeau plan FILE…`: what would follow if the files were applied; nothing is changed.

Exit codes, as of `kubectl diff`: 0 nothing would change, 1 something would, 2 it would be refused,
or cannot be told.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from flambeau_operator.cli import places
from flambeau_operator.cli.applied import after_apply
from flambeau_operator.cli.golden import Golden, read_requests
from flambeau_operator.cli.manifests import Manifest, read_manifests
from flambeau_operator.cli.on_machine import Session
from flambeau_operator.cli.places import NoSuchDeployment, Place
from flambeau_operator.cli.plan_lines import Planned, plan_lines, plan_to_json
from flambeau_operator.cli.plan_load import candidates_of, found_here, load
from flambeau_operator.cli.problems import Problem, check_files
from flambeau_operator.cli.rollout_screen import write_lines
from flambeau_operator.cli.where import Where
from flambeau_operator.doors import Key
from flambeau_operator.errors import OperatorFault
from flambeau_operator.plan.foresight import foresee
from flambeau_operator.plan.standing import Kind
from flambeau_operator.resources.model_deployment import parse
from flambeau_operator.resources.pod_state import Document

SAME: Final = 0
DIFFERS: Final = 1
WRONG: Final = 2
INTERRUPTED: Final = 130


@dataclass(frozen=True, slots=True)
class TrialWanted:
    """That candidates shall be loaded, and what they are asked."""

    requests: Path | None  # JSON lines; None: the models' warm-up requests
    within_s: float  # for each version


def run(files: Sequence[Path], where: Where, trial: TrialWanted | None, *, as_json: bool) -> int:
    """Print what would follow and return the exit code."""
    checked = check_files(files)
    if checked.problems:
        _write([], checked.problems, as_json=as_json)
        return WRONG
    written = [manifest for file in files for manifest in read_manifests(file)]
    try:
        golden = read_requests(trial.requests) if trial and trial.requests else ()
        planned = asyncio.run(_Planning(where, trial, golden).all_of(written))
    except KeyboardInterrupt:
        return INTERRUPTED
    except OperatorFault as error:
        sys.stderr.write(f"flambeau plan: {error}\n")
        return WRONG
    _write(planned, (), as_json=as_json)
    return max((_code(each) for each in planned), default=SAME)


def _code(planned: Planned) -> int:
    refused = any(each.kind is Kind.REUSED for each in planned.foresight.models)
    failed = any(not each.is_good for each in planned.trials)
    if planned.refusal or refused or failed:
        return WRONG
    return DIFFERS if planned.differs else SAME


@dataclass(frozen=True, slots=True)
class _Planning:
    """Makes the plans of one command."""

    where: Where
    trial: TrialWanted | None
    golden: tuple[Golden, ...]

    async def all_of(self, manifests: Iterable[Manifest]) -> list[Planned]:
        """Plan one after the other."""
        return [await self._plan(each) for each in manifests]

    async def _plan(self, manifest: Manifest) -> Planned:
        metadata = manifest.body["metadata"]
        namespace = metadata.get("namespace") or self.where.namespace
        where = replace(self.where, namespace=namespace)
        try:
            async with places.find(where, metadata["name"]) as (place, key):
                return await self._against(manifest, place, key)
        except NoSuchDeployment:
            if where.on_this_machine or where.in_a_cluster:
                raise
        key = Key(namespace or places.LOCAL_NAMESPACE, metadata["name"])
        here = manifest.on_this_machine()
        return await self._tried(_new(key, None, _wish(here, key)), here, None)

    async def _against(self, manifest: Manifest, place: Place, key: Key) -> Planned:
        here = manifest.on_this_machine()
        wish = _wish(here if isinstance(place, Session) else manifest, key)
        live, refusal = await place.read(key), await place.refusal(wish)
        if live is None:
            planned = replace(_new(key, place.label, wish), refusal=refusal)
            return await self._tried(planned, here, None)
        body, committed = after_apply(live, wish), await place.committed(key)
        foresight = foresee(parse(live), parse(body), committed)
        foresight = foresight.with_modes(await place.modes(key, body))
        planned = Planned(
            key.namespace,
            key.name,
            place.label,
            exists=True,
            foresight=foresight,
            refusal=refusal,
        )
        if committed and not isinstance(place, Session):
            committed = found_here(committed, parse(live), manifest.folder)
        return await self._tried(planned, here, committed)

    async def _tried(self, planned: Planned, here: Manifest, committed: Document | None) -> Planned:
        """Return the plan with what its candidates are like, if that is asked for."""
        if self.trial is None or planned.refusal:
            return planned
        wish = parse(_wish(here, Key(planned.namespace, planned.name)))
        candidates = candidates_of(planned.foresight, wish, committed)
        if not candidates:
            return planned
        trials = await load(candidates, self.golden, self.trial.within_s)
        return replace(planned, trials=trials)


def _new(key: Key, where: str | None, wish: Mapping[str, Any]) -> Planned:
    foresight = foresee(None, parse(wish), None)
    return Planned(key.namespace, key.name, where, exists=False, foresight=foresight)


def _wish(manifest: Manifest, key: Key) -> Mapping[str, Any]:
    """Return the manifest as it would be applied: in its namespace, without a status."""
    body = {name: value for name, value in manifest.body.items() if name != "status"}
    return {**body, "metadata": {**body["metadata"], "namespace": key.namespace}}


def _write(planned: Sequence[Planned], problems: Sequence[Problem], *, as_json: bool) -> None:
    if as_json:
        content = {
            "deployments": [plan_to_json(each) for each in planned],
            "problems": [str(each) for each in problems],
        }
        sys.stdout.write(json.dumps(content, indent=2) + "\n")
        return
    for problem in problems:
        sys.stderr.write(f"{problem}\n")
    for number, each in enumerate(planned):
        write_lines([*([()] if number else []), *plan_lines(each)])
