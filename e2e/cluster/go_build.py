"""Programs out of Go modules: built once for each state of their sources, and kept."""

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
from dataclasses import dataclass
from pathlib import Path

from e2e.cluster.faults import BuildFailed, MissingPrograms
from e2e.cluster.place import cache
from e2e.cluster.progress import Say


@dataclass(frozen=True, slots=True)
class GoModule:
    """A Go module of ours whose programs are wanted.

    Args:
        sources: its folder; the build is kept under that name.
        what: what it builds, for who waits.
        minutes: how long that takes on two cores, for the same.
        go: the oldest Go that can.
        packages: what is given to `go build`.
        version: the name of a module whose version the build goes by.
    """

    sources: Path
    what: str
    minutes: str
    go: str
    packages: str
    version: str

    @property
    def wanted(self) -> str:
        """The version that go.mod names of `version`, as in v1.34.4."""
        file = self.sources / "go.mod"
        line = rf"^\s+{re.escape(self.version)} (v\S+)"
        found = re.search(line, file.read_text(), re.MULTILINE)
        if found is None:
            raise BuildFailed(self.what, f"{file} names no version of {self.version}")
        return found[1]

    @property
    def target(self) -> Path:
        """Where the programs of these very sources are kept."""
        digest = hashlib.sha256()
        for source in sorted(self.sources.rglob("*")):
            if source.is_file():
                digest.update(f"{source.relative_to(self.sources)}\0".encode())
                digest.update(source.read_bytes())
        return cache() / self.sources.name / f"{self.wanted}-{digest.hexdigest()[:12]}"

    def built(self, linked: dict[str, str], say: Say) -> Path:
        """Return the folder with the programs; build what is missing.

        Args:
            linked: values of the programs' variables, set by the linker.
            say: told how far it is.
        """
        target = self.target
        if target.is_dir():
            return target
        target.parent.mkdir(parents=True, exist_ok=True)
        with self._alone(target.parent / "lock", say):
            if not target.is_dir():  # nobody built it while we waited
                self._build(target, linked, say)
        return target

    @contextlib.contextmanager
    def _alone(self, path: Path, say: Say) -> Iterator[None]:
        with path.open("w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                say(f"another process builds {self.what}: waiting for it")
                fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def _build(self, target: Path, linked: dict[str, str], say: Say) -> None:
        if shutil.which("go") is None:
            raise MissingPrograms(["go"], f"install Go {self.go} or newer (https://go.dev/dl)")
        say(f"building {self.what} from Go modules: once, {self.minutes} minutes on two cores")
        for interrupted in target.parent.glob("building-*"):
            shutil.rmtree(interrupted)
        folder = Path(tempfile.mkdtemp(prefix="building-", dir=target.parent))
        try:
            self._run_go(folder, linked, say)
            folder.chmod(0o755)
            folder.rename(target)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        say(f"built and kept in {target}")

    def _run_go(self, folder: Path, linked: dict[str, str], say: Say) -> None:
        flags = " ".join(["-s -w", *(f"-X {name}={value}" for name, value in linked.items())])
        build = ["go", "build", "-v", "-trimpath", "-ldflags", flags, "-o", f"{folder}/"]
        log = folder / "build.log"
        with log.open("w") as output:
            process = subprocess.Popen(
                ["nice", "-n", "19", *build, self.packages],
                cwd=self.sources,
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
            raise BuildFailed(self.what, log.read_text(errors="replace")[-4000:])
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
