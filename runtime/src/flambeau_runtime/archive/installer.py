"""uv, else pip: what is still missing for a requirements file, and its installation elsewhere.

Nothing of the runtime's own packages is ever changed. First the installer is asked what it would
add to them, kept as they are where that is possible; then just that is put somewhere else. So a
model that needs torch gets the torch that is here, and nothing is fetched twice.
"""

from __future__ import annotations

import configparser
import importlib.util
import json
import logging
import os
import re
import select
import shutil
import signal
import subprocess
import sys
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

LIMIT_S = 3600.0
"""An installer that has not come to an end by then never will."""

TAIL_CHARACTERS = 2048
MOST_OUTPUT = 1 << 20
PROGRESS_EVERY_S = 10.0
POLL_S = 0.1
_WOULD_ADD = re.compile(
    r" \+ (?P<name>[^\s=@]+)(?:==(?P<version>\S+))?(?: @ (?P<at>.+)| \(from (?P<url>.+)\))?"
)
"""One line of what uv would do; older ones write a URL in brackets."""

log = logging.getLogger(__name__)


class InstallationFailed(Exception):
    """The installer gave up; the text is the last it said."""


class InstallationStopped(Exception):
    """Nobody waits for this installation any more."""


@dataclass(frozen=True, slots=True)
class Job:
    """One installation: what surrounds each call of the installer."""

    model: str  # for log lines
    folder: Path  # the working directory: requirements may name files relative to it
    work: Path  # where files in between may be left
    keep_open: tuple[int, ...]  # locks that a call holds for as long as it lives
    stop: threading.Event


@dataclass(frozen=True, slots=True)
class Pin:
    """One package as the installer chose it."""

    name: str
    requirement: str  # "name==1.0", or "name @ URL"


class Installer(ABC):
    """One of the two; `environ` is what it sees."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self.environ = dict(environ)

    @abstractmethod
    def plan(self, requirements: Path, constraints: Path | None, job: Job) -> list[Pin]:
        """Return what would be added to the runtime's own packages."""

    @abstractmethod
    def install(self, lines: Path, job: Job, *, target: Path | None, python: Path) -> None:
        """Install exactly these lines into a directory, or for an interpreter of its own."""


class Uv(Installer):
    """Astral's uv; pip's settings are told to it where it has none of its own."""

    def __init__(self, environ: Mapping[str, str], program: str) -> None:
        super().__init__(with_pips_settings(environ))
        self._command = [program, "--color=never", "--no-progress", "pip", "install"]

    def plan(self, requirements: Path, constraints: Path | None, job: Job) -> list[Pin]:
        """Return what would be added to the runtime's own packages."""
        output = _run(
            [
                *self._command,
                *("--dry-run", "--break-system-packages", "--python", sys.executable),
                *("--requirements", str(requirements)),
                *(("--constraints", str(constraints)) if constraints else ()),
            ],
            self.environ,
            job,
        )
        return list(_would_add(output))

    def install(self, lines: Path, job: Job, *, target: Path | None, python: Path) -> None:
        """Install exactly these lines into a directory, or for an interpreter of its own."""
        where = ("--target", str(target)) if target else ()
        what = ("--no-deps", "--requirements", str(lines))
        _run([*self._command, "--python", str(python), *where, *what], self.environ, job)


class Pip(Installer):
    """The pip of this interpreter."""

    _COMMAND = ("-m", "pip", "--no-input", "--disable-pip-version-check", "--no-color")

    def plan(self, requirements: Path, constraints: Path | None, job: Job) -> list[Pin]:
        """Return what would be added to the runtime's own packages."""
        report = job.work / "report.json"
        _run(
            [
                *(sys.executable, *self._COMMAND, "install"),
                *("--dry-run", "--break-system-packages", "--report", str(report)),
                *("--requirement", str(requirements)),
                *(("--constraint", str(constraints)) if constraints else ()),
            ],
            self.environ,
            job,
        )
        return [_reported(it) for it in json.loads(report.read_text())["install"]]

    def install(self, lines: Path, job: Job, *, target: Path | None, python: Path) -> None:
        """Install exactly these lines into a directory, or for an interpreter of its own."""
        where = ("--target", str(target)) if target else ()
        what = ("--no-deps", "--requirement", str(lines))
        command = [sys.executable, *self._COMMAND, "--python", str(python), "install"]
        _run([*command, *where, *what], self.environ, job)


def find_installer(environ: Mapping[str, str]) -> Installer:
    """Return uv where it is installed, else pip.

    Raises:
        InstallationFailed: neither is.
    """
    beside = Path(sys.executable).parent
    program = shutil.which("uv", path=f"{beside}{os.pathsep}{environ.get('PATH', '')}")
    if program is not None:
        return Uv(environ, program)
    if importlib.util.find_spec("pip") is not None:
        return Pip(environ)
    raise InstallationFailed(
        f"neither uv nor pip is installed: put uv on the PATH, or pip beside {sys.executable}"
    )


# what pip is told is told to uv

_UVS_NAMES: Mapping[str, str] = {
    "index-url": "UV_DEFAULT_INDEX",
    "extra-index-url": "UV_INDEX",
    "find-links": "UV_FIND_LINKS",
    "no-index": "UV_NO_INDEX",
    "trusted-host": "UV_INSECURE_HOST",
    "constraint": "UV_CONSTRAINT",
    "cert": "SSL_CERT_FILE",
    "proxy": "ALL_PROXY",
    "timeout": "UV_HTTP_TIMEOUT",
    "default-timeout": "UV_HTTP_TIMEOUT",
}
_SAME = {"UV_DEFAULT_INDEX": "UV_INDEX_URL", "UV_INDEX": "UV_EXTRA_INDEX_URL"}
"""Older names of uv's own: who has set one of those has spoken, too."""


def with_pips_settings(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the environment for uv: where packages come from, as pip's settings say it."""
    settings = {**_pip_files(environ), **_pip_variables(environ)}
    told = {}
    for name, value in settings.items():
        variable = _UVS_NAMES.get(name)
        if variable and variable not in environ and _SAME.get(variable) not in environ:
            told[variable] = _in_uvs_words(name, value)
    if "UV_INDEX" in told:
        # pip looks into every index for the best version, uv stops at the first that has any.
        told.setdefault("UV_INDEX_STRATEGY", "unsafe-best-match")
    return {**told, **environ}


def _in_uvs_words(name: str, value: str) -> str:
    separator = "," if name == "find-links" else " "
    return separator.join(value.split())


def _pip_variables(environ: Mapping[str, str]) -> dict[str, str]:
    return {
        name.removeprefix("PIP_").lower().replace("_", "-"): value
        for name, value in environ.items()
        if name.startswith("PIP_") and value
    }


def _pip_files(environ: Mapping[str, str]) -> dict[str, str]:
    """Return what pip's configuration files say, read in pip's order."""
    home = Path(environ.get("HOME", "/"))
    settings = Path(environ.get("XDG_CONFIG_HOME") or home / ".config")
    files = [
        Path("/etc/pip.conf"),
        home / ".pip/pip.conf",
        settings / "pip/pip.conf",
        Path(sys.prefix) / "pip.conf",
    ]
    if environ.get("PIP_CONFIG_FILE"):
        files.append(Path(environ["PIP_CONFIG_FILE"]))
    parser = configparser.RawConfigParser()
    for file in files:
        with suppress(configparser.Error, UnicodeDecodeError, OSError):
            parser.read(file, encoding="utf-8")
    sections = [section for section in ("global", "install") if parser.has_section(section)]
    return {
        name.replace("_", "-"): value
        for section in sections
        for name, value in parser.items(section)
        if value
    }


# what they answer


def _would_add(output: str) -> Iterator[Pin]:
    for line in output.splitlines():
        found = _WOULD_ADD.fullmatch(line)
        if found is None:
            continue
        name, url = found["name"], found["at"] or found["url"]
        yield Pin(name, f"{name} @ {url}" if url else f"{name}=={found['version']}")


def _reported(item: Mapping[str, dict[str, str]]) -> Pin:
    name, version = item["metadata"]["name"], item["metadata"]["version"]
    if item.get("is_direct"):
        return Pin(name, f"{name} @ {item['download_info']['url']}")
    return Pin(name, f"{name}=={version}")


# one call


def _run(command: Sequence[str], environ: Mapping[str, str], job: Job) -> str:
    """Run one call to its end and return what it printed, the last megabyte of it.

    Raises:
        InstallationFailed: it exits with another status than 0, or takes for ever.
        InstallationStopped: `job.stop` said so; the call and what it has started are killed.
    """
    with subprocess.Popen(  # noqa: S603  an installer's own path and words of ours
        command,
        cwd=job.folder,
        env=dict(environ),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        pass_fds=job.keep_open,
        # A group, to be killed as a whole, but no session: whoever buries orphans leaves the
        # children of our own session to those of us that wait for them.
        process_group=0,
    ) as process:
        try:
            output = _read_all(process, job)
        except BaseException:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)
            raise
    if process.returncode != 0:
        raise InstallationFailed(output.strip()[-TAIL_CHARACTERS:] or f"exit {process.returncode}")
    return output


def _read_all(process: subprocess.Popen[bytes], job: Job) -> str:
    """Read until the call has ended; whatever it leaves behind may hold its output open."""
    watch = _Watch(job)
    pipe = process.stdout
    while pipe is not None:
        watch.look()
        if select.select([pipe], [], [], POLL_S)[0]:
            chunk = os.read(pipe.fileno(), 65_536)
            watch.kept = (watch.kept + chunk)[-MOST_OUTPUT:]
            pipe = pipe if chunk else None
        elif process.poll() is not None:
            break
    while process.poll() is None:
        watch.look()
        job.stop.wait(POLL_S)
    return watch.text()


class _Watch:
    """What a call has said so far, and how long it may go on."""

    def __init__(self, job: Job) -> None:
        self.kept = b""
        self._job = job
        self._began = self._told = time.monotonic()

    def text(self) -> str:
        return self.kept.decode("utf-8", "replace")

    def look(self) -> None:
        """Tell that it goes on, or raise InstallationStopped or InstallationFailed."""
        now = time.monotonic()
        if self._job.stop.is_set():
            raise InstallationStopped
        if now - self._began > LIMIT_S:
            said = f"{self.text()}\nnot done after {LIMIT_S:g} s"
            raise InstallationFailed(said[-TAIL_CHARACTERS:])
        if now - self._told >= PROGRESS_EVERY_S:
            self._told = now
            last = self.text().strip().rpartition("\n")[2][-200:]
            fields = {"model": self._job.model, "seconds": round(now - self._began)}
            log.info("still installing packages", extra={**fields, "last_line": last})
