"""`flambeau plan FILE…`: what would follow if the files were applied; nothing is changed.

Exit codes, as of `kubectl diff`: 0 nothing would change, 1 something would, 2 it would be refused,
or cannot be told.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from flambeau_operator.cli import places
from flambeau_operator.cli.applied import after_apply
from flambeau_operator.cli.manifests import Manifest, read_manifests
from flambeau_operator.cli.on_machine import Session
from flambeau_operator.cli.places import NoSuchDeployment, Place
from flambeau_operator.cli.plan_lines import Planned, plan_lines, plan_to_json
from flambeau_operator.cli.problems import Problem, check_files
from flambeau_operator.cli.rollout_screen import write_lines
from flambeau_operator.cli.where import Where
from flambeau_operator.doors import Key
from flambeau_operator.errors import OperatorFault
from flambeau_operator.plan.foresight import foresee
from flambeau_operator.plan.standing import Kind
from flambeau_operator.resources.model_deployment import parse

SAME: Final = 0
DIFFERS: Final = 1
WRONG: Final = 2
INTERRUPTED: Final = 130


def run(files: Sequence[Path], where: Where, *, as_json: bool) -> int:
    """Print what would follow and return the exit code."""
    checked = check_files(files)
    if checked.problems:
        _write([], checked.problems, as_json=as_json)
        return WRONG
    written = [manifest for file in files for manifest in read_manifests(file)]
    try:
        planned = asyncio.run(_plan_all(written, where))
    except KeyboardInterrupt:
        return INTERRUPTED
    except OperatorFault as error:
        sys.stderr.write(f"flambeau plan: {error}\n")
        return WRONG
    _write(planned, (), as_json=as_json)
    return max((_code(each) for each in planned), default=SAME)


def _code(planned: Planned) -> int:
    refused = any(each.kind is Kind.REUSED for each in planned.foresight.models)
    if planned.refusal or refused:
        return WRONG
    return DIFFERS if planned.differs else SAME


async def _plan_all(manifests: Iterable[Manifest], where: Where) -> list[Planned]:
    return [await _plan(each, where) for each in manifests]


async def _plan(manifest: Manifest, where: Where) -> Planned:
    metadata = manifest.body["metadata"]
    namespace = metadata.get("namespace") or where.namespace
    try:
        async with places.find(replace(where, namespace=namespace), metadata["name"]) as found:
            return await _against(manifest, *found)
    except NoSuchDeployment:
        if where.on_this_machine or where.in_a_cluster:
            raise
        key = Key(namespace or places.LOCAL_NAMESPACE, metadata["name"])
        return _new(key, None, _wish(manifest.on_this_machine(), key))


async def _against(manifest: Manifest, place: Place, key: Key) -> Planned:
    here = manifest.on_this_machine() if isinstance(place, Session) else manifest
    wish, live = _wish(here, key), await place.read(key)
    refusal = await place.refusal(wish)
    if live is None:
        return replace(_new(key, place.label, wish), refusal=refusal)
    new_body = after_apply(live, wish)
    new = parse(new_body)
    foresight = foresee(parse(live), new, await place.committed(key))
    foresight = foresight.with_modes(await place.modes(key, new_body))
    return Planned(
        key.namespace, key.name, place.label, exists=True, foresight=foresight, refusal=refusal
    )


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
