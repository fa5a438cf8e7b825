"""Packages of a model's own: installed once per requirements, kept apart from the runtime's.

Below the root, each environment has a folder named after what it is made of. It is built in place,
for what a virtual environment contains names its own path, and counts once `complete.json` is
there. Whoever builds holds the lock beside it, and so does every process that it starts for that:
two runtimes at once build once, and what a killed one left half-made is swept away by the next,
not before its last installer is gone. Whoever uses an environment shares the lock.
"""

from __future__ import annotations

import asyncio
import fcntl
import hashlib
import json
import logging
import os
import platform
import shutil
import sys
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from typing import TypeVar

from flambeau_runtime.archive.installer import (
    InstallationFailed,
    InstallationStopped,
    Installer,
    Job,
    Pin,
    find_installer,
)
from flambeau_runtime.archive.model_config import read_model_config
from flambeau_runtime.archive.package import Environment, Package
from flambeau_runtime.archive.requirements import Requirements, read_requirements
from flambeau_runtime.archive.virtual_environment import make_virtual_environment
from flambeau_runtime.errors import RequirementsFailed

COMPLETE = "complete.json"
LOCK_POLL_S = 0.1
THREADS = 2
NO_REQUIREMENTS = Requirements(text="", options=(), is_hashed=False, is_plain=True)
T = TypeVar("T")

log = logging.getLogger(__name__)


class Environments:
    """One directory of environments, and the way into it."""

    def __init__(self, root: Path, environ: Mapping[str, str], *, install: bool = False) -> None:
        """Do nothing yet.

        Args:
            root: where they are; made when the first is.
            environ: what installers see: proxies, indexes, certificates.
            install: the consent to install what archives require, and so to run code of theirs.
        """
        self.root = root
        self._environ = {
            "UV_CACHE_DIR": str(root / "wheels"),
            "PIP_CACHE_DIR": str(root / "wheels"),
            "UV_LINK_MODE": "copy",  # a model that writes to its packages must not change the cache
            **environ,
        }
        self._install = install
        self._held: dict[Path, int] = {}
        self._locks: dict[str, asyncio.Lock] = {}
        self._runtime: dict[str, str] | None = None
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="environment")

    async def equip(self, package: Package) -> Package:
        """Return the package with what it requires: installed now, or found from before.

        Raises:
            RequirementsFailed: it cannot be installed; the error has the installer's last lines.
        """
        file = self._requirements_file(package)
        use_venv = read_model_config(package.config).use_venv
        if file is None and not use_venv:
            return package
        try:
            requirements, name = await self._in_thread(
                lambda _: self._read(package, file, use_venv)
            )
            async with self._locks.setdefault(name, asyncio.Lock()):
                environment = await self._in_thread(
                    lambda stop: _Building(self, package, file, requirements, use_venv, stop).at(
                        self.root / name
                    )
                )
        except (OSError, UnicodeDecodeError, InstallationFailed) as error:
            raise RequirementsFailed(package.model, str(error)) from error
        return replace(package, environment=environment)

    async def release(self, environment: Environment) -> None:
        """Delete an environment that no version uses any more, unless another runtime does."""
        await self._in_thread(lambda _: self._discard(environment.home))

    def close(self) -> None:
        """Wait for the threads, and let others have what was used here."""
        self._threads.shutdown()
        for descriptor in self._held.values():
            os.close(descriptor)
        self._held.clear()

    # what _Building asks

    @property
    def environ(self) -> Mapping[str, str]:
        """What installers see."""
        return self._environ

    def runtime(self) -> Mapping[str, str]:
        """Return the runtime's own packages: name → version."""
        if self._runtime is None:
            self._runtime = dict(
                reversed(
                    [(normal(it.name), it.version) for it in metadata.distributions() if it.name]
                )
            )
        return self._runtime

    def held(self, home: Path) -> dict[str, object] | None:
        """Return the facts of an environment that this runtime uses already."""
        if home not in self._held:
            return None
        facts = read_facts(home)
        if facts is None:  # deleted by hand: it is to be built, under its lock
            os.close(self._held.pop(home))
        return facts

    def hold(self, home: Path, descriptor: int) -> None:
        """Keep the lock of an environment, shared, for as long as this runtime uses it."""
        fcntl.flock(descriptor, fcntl.LOCK_SH)
        self._held[home] = descriptor

    # inside

    def _requirements_file(self, package: Package) -> Path | None:
        model = package.manifest.get("model")
        named = model.get("requirementsFile") if isinstance(model, dict) else None
        if not named:
            return None
        if self._install:
            return package.directory / str(named)
        log.warning(
            "requirements are not installed: set install_py_dep_per_model=true to have them",
            extra={"model": package.model, "file": named},
        )
        return None

    def _read(
        self, package: Package, file: Path | None, use_venv: bool
    ) -> tuple[Requirements, str]:
        """Return the requirements, and the name of the environment that they make."""
        requirements = NO_REQUIREMENTS if file is None else read_requirements(file)
        facts = {
            "kind": "venv" if use_venv else "directory",
            "requirements": requirements.text,
            "beside": "" if requirements.is_plain else _stamp(package),
            "python": [sys.version, platform.machine(), sys.prefix],
            "runtime": self.runtime(),
        }
        digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
        return requirements, digest[:32]

    def _discard(self, home: Path) -> None:
        descriptor = self._held.pop(home, None)
        if descriptor is None:
            return
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            (home / COMPLETE).unlink(missing_ok=True)
            shutil.rmtree(home, ignore_errors=True)
        except BlockingIOError:
            pass  # another runtime still works with it
        finally:
            os.close(descriptor)

    async def _in_thread(self, work: Callable[[threading.Event], T]) -> T:
        """Run `work` off the loop; whoever stops waiting stops it and its installer."""
        stop = threading.Event()
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, work, stop)
        finally:
            stop.set()


class _Building:
    """One model's way to its environment; runs in a thread."""

    def __init__(
        self,
        owner: Environments,
        package: Package,
        file: Path | None,
        requirements: Requirements,
        use_venv: bool,
        stop: threading.Event,
    ) -> None:
        self._owner = owner
        self._package = package
        self._file = file
        self._requirements = requirements
        self._use_venv = use_venv
        self._stop = stop

    def at(self, home: Path) -> Environment:
        """Return the environment at `home`, built if it is not there."""
        facts = self._owner.held(home)
        if facts is None:
            home.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(home.with_name(f"{home.name}.lock"), os.O_RDWR | os.O_CREAT, 0o644)
            try:
                facts = self._found_or_built(home, descriptor)
                self._owner.hold(home, descriptor)
            except BaseException:
                os.close(descriptor)
                raise
        return _environment(home, facts)

    def _found_or_built(self, home: Path, lock: int) -> dict[str, object]:
        while True:
            alone = _try_lock(lock, fcntl.LOCK_EX)
            if alone or _try_lock(lock, fcntl.LOCK_SH):
                facts = read_facts(home)
                if facts is not None:
                    return facts
                if alone:
                    return self._built(home, lock)
                fcntl.flock(lock, fcntl.LOCK_UN)  # whoever else looks shall get it alone
            if self._stop.wait(LOCK_POLL_S):
                raise InstallationStopped

    def _built(self, home: Path, lock: int) -> dict[str, object]:
        shutil.rmtree(home, ignore_errors=True)
        home.mkdir()
        facts = self._build(home, lock)
        partial = home / f"{COMPLETE}.partial"
        partial.write_text(json.dumps(facts))
        partial.replace(home / COMPLETE)
        return facts

    def _build(self, home: Path, lock: int) -> dict[str, object]:
        began = time.monotonic()
        fields = {"model": self._package.model, "environment": home.name}
        python = make_virtual_environment(home / "venv") if self._use_venv else None
        pins: list[Pin] = []
        if self._file is not None:
            log.info("installing packages", extra=fields)
            job = Job(self._package.model, self._package.directory, home, (lock,), self._stop)
            pins = self._install(home, python, job)
            log.info(
                "Installed custom pip packages for model %s",
                self._package.model,
                extra={**fields, "seconds": round(time.monotonic() - began, 1)},
            )
        runtime = self._owner.runtime()
        return {
            "packages": [pin.requirement for pin in pins],
            "venv": python is not None,
            "adds_only": not any(normal(pin.name) in runtime for pin in pins)
            and not self._requirements.is_hashed,
        }

    def _install(self, home: Path, python: Path | None, job: Job) -> list[Pin]:
        installer = find_installer(self._owner.environ)
        target = home / "packages" if python is None else None
        if target is not None:
            target.mkdir()
        interpreter = python or Path(sys.executable)
        lines = home / "requirements.txt"
        if self._requirements.is_hashed:
            # Everything is named and pinned already, and only these lines have the hashes.
            lines.write_text(self._requirements.text)
            installer.install(lines, job, target=target, python=interpreter)
            return []
        pins = self._plan(installer, home, job)
        lines.write_text(
            "\n".join([*self._requirements.options, *(pin.requirement for pin in pins)])
        )
        if pins:
            installer.install(lines, job, target=target, python=interpreter)
        return pins

    def _plan(self, installer: Installer, home: Path, job: Job) -> list[Pin]:
        """Return what is missing, with the runtime's own packages as they are where possible."""
        file = self._file or home
        constraints = home / "constraints.txt"
        constraints.write_text(
            "\n".join(f"{name}=={version}" for name, version in self._owner.runtime().items())
        )
        try:
            return installer.plan(file, constraints, job)
        except InstallationFailed as error:
            log.info(
                "the model's requirements do not fit the runtime's packages",
                extra={"model": self._package.model, "why": str(error)},
            )
        return installer.plan(file, None, job)


def normal(name: str) -> str:
    """Return a package's name as indexes compare it."""
    return name.lower().replace("_", "-").replace(".", "-")


def _environment(home: Path, facts: Mapping[str, object]) -> Environment:
    venv = bool(facts["venv"])
    return Environment(
        home=home,
        packages=None if venv else home / "packages",
        python=home / "venv" / "bin" / "python" if venv else None,
        adds_only=bool(facts["adds_only"]),
    )


def read_facts(home: Path) -> dict[str, object] | None:
    """Return what a complete environment says of itself; None for any other."""
    try:
        facts = json.loads((home / COMPLETE).read_text())
    except (OSError, ValueError):
        return None
    return facts if isinstance(facts, dict) and {"venv", "adds_only"} <= facts.keys() else None


def _try_lock(descriptor: int, kind: int) -> bool:
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _stamp(package: Package) -> str:
    """Return what changes when any file beside the requirements does."""
    if package.digest is not None:
        return package.digest
    files = sorted(path for path in package.directory.rglob("*") if path.is_file())
    stamps = [(str(path), path.stat().st_size, path.stat().st_mtime_ns) for path in files]
    return hashlib.sha256(repr(stamps).encode()).hexdigest()
