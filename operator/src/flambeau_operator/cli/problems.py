"""What is wrong with a file, in words that say where: `file:line:column: path: message`."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from flambeau_operator.cli.manifests import Manifest, UnreadableManifest, read_manifests
from flambeau_operator.errors import InvalidSpec
from flambeau_operator.resources.model_deployment import ModelDeployment, parse


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing to put right. `path` is empty where the file as a whole is meant."""

    file: str
    line: int
    column: int
    path: str
    message: str
    nearest: str | None = None  # the known name that comes closest to an unknown one

    def __str__(self) -> str:
        where = f"{self.file}:{self.line}:{self.column}: "
        hint = f" (did you mean {self.nearest!r}?)" if self.nearest else ""
        return where + (f"{self.path}: " if self.path else "") + self.message + hint


@dataclass(frozen=True, slots=True)
class Checked:
    """What some files hold: the good manifests with what they describe, and everything wrong."""

    good: tuple[tuple[Manifest, ModelDeployment], ...]
    problems: tuple[Problem, ...]


def check_files(files: Iterable[Path]) -> Checked:
    """Read and check every document of every file; never raises for what is in them."""
    good: list[tuple[Manifest, ModelDeployment]] = []
    problems: list[Problem] = []
    for file in files:
        try:
            manifests = read_manifests(file)
        except UnreadableManifest as error:
            at = error.position
            problems.append(Problem(error.file, at.line, at.column, "", error.message))
            continue
        for manifest in manifests:
            try:
                good.append(_check(manifest))
            except InvalidSpec as error:
                problems.extend(located(manifest, error))
    problems.extend(_doubles(good))
    return Checked(tuple(good), tuple(problems))


def _check(manifest: Manifest) -> tuple[Manifest, ModelDeployment]:
    """Return what is to be served: judged as it is written, then taken to this machine."""
    parse(manifest.body)
    local = manifest.on_this_machine()
    return local, parse(local.body)


def located(manifest: Manifest, error: InvalidSpec) -> list[Problem]:
    """Return what is wrong with a manifest in the order of its lines."""
    wrong = [_problem(manifest, each.path, each.message, each.nearest) for each in error.problems]
    return sorted(wrong, key=lambda problem: (problem.line, problem.column, problem.path))


def _problem(manifest: Manifest, path: str, message: str, nearest: str | None = None) -> Problem:
    at = manifest.position(path)
    return Problem(manifest.file, at.line, at.column, path, message, nearest)


def _doubles(good: Iterable[tuple[Manifest, ModelDeployment]]) -> Iterable[Problem]:
    """Yield a problem for each ModelDeployment whose name an earlier document already has."""
    seen: dict[tuple[str, str], Manifest] = {}
    for manifest, deployment in good:
        key = (deployment.metadata.namespace, deployment.metadata.name)
        first = seen.setdefault(key, manifest)
        if first is not manifest:
            message = f"{'/'.join(key)} is already described in {first.file}"
            yield _problem(manifest, "metadata.name", message)
