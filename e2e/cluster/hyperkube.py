"""The build, once for each state of the sources.

Kubernetes, etcd, CoreDNS and metrics-server are Go modules: no registry and no release is needed.
"""

import contextlib
import fcntl
import hashlib
import os
import re
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from e2e.cluster.access import Say
from e2e.cluster.faults import BuildFailed, MissingPrograms
from e2e.cluster.place import cache

SOURCES = Path(__file__).parent / "hyperkube"


def version() -> str:
    """Return the version of Kubernetes that go.mod names, as in v1.34.4."""
    found = re.search(
        r"^\tk8s\.io/kubernetes (v\S+)$", (SOURCES / "go.mod").read_text(), re.MULTILINE
    )
    if found is None:
        raise BuildFailed(f"{SOURCES / 'go.mod'} names no version of k8s.io/kubernetes")
    return found[1]


def built(say: Say) -> Path:
    """Return the folder with the binaries; build what is missing."""
    target = _target()
    if target.is_dir():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    with _lock(target.parent / "lock", say):
        if not target.is_dir():  # nobody built it while we waited
            _build(target, say)
    return target


def _target() -> Path:
    digest = hashlib.sha256()
    for source in sorted(SOURCES.rglob("*")):
        if source.is_file():
            digest.update(f"{source.relative_to(SOURCES)}\0".encode() + source.read_bytes())
    return cache() / "hyperkube" / f"{version()}-{digest.hexdigest()[:12]}"


@contextlib.contextmanager
def _lock(path: Path, say: Say) -> Iterator[None]:
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("another process builds Kubernetes: waiting for it")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _build(target: Path, say: Say) -> None:
    if shutil.which("go") is None:
        raise MissingPrograms(["go"], "install Go 1.24 or newer (https://go.dev/dl)")
    say(f"building Kubernetes {version()} from its Go modules: once, 5 to 10 minutes on two cores")
    for interrupted in target.parent.glob("building-*"):
        shutil.rmtree(interrupted)
    folder = Path(tempfile.mkdtemp(prefix="building-", dir=target.parent))
    try:
        _run_go(folder, say)
        folder.chmod(0o755)
        folder.rename(target)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    say(f"built and kept in {target}")


def _run_go(folder: Path, say: Say) -> None:
    major, minor = version().lstrip("v").split(".")[:2]
    stamp = "k8s.io/component-base/version"
    # Clients parse these; without them the version is "v0.0.0-master+$Format:%H$".
    names = {"gitVersion": version(), "gitMajor": major, "gitMinor": minor}
    flags = " ".join(["-s -w", *(f"-X {stamp}.{name}={value}" for name, value in names.items())])
    log = folder / "build.log"
    with log.open("w") as output:
        process = subprocess.Popen(
            [
                "nice",
                "-n",
                "19",
                "go",
                "build",
                "-v",
                "-trimpath",
                "-ldflags",
                flags,
                "-o",
                f"{folder}/",
                "./...",
            ],
            cwd=SOURCES,
            env=os.environ
            | {"CGO_ENABLED": "0", "GOFLAGS": "-mod=readonly -buildvcs=false", "GOWORK": "off"},
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # so that all of it, compilers too, can be stopped at once
        )
        try:
            _watch(process, log, say)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    if process.returncode:
        raise BuildFailed(log.read_text(errors="replace")[-4000:])
    log.unlink()


def _watch(process: subprocess.Popen[bytes], log: Path, say: Say) -> None:
    begin = time.monotonic()
    while True:
        try:
            process.wait(timeout=15)
        except subprocess.TimeoutExpired:
            seen = log.read_text(errors="replace").splitlines()
            last = seen[-1] if seen else "-"
            say(f"{time.monotonic() - begin:4.0f} s: {len(seen)} packages so far, last {last}")
        else:
            return
