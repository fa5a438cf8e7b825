"""Where the things of a cluster lie: one folder holds all of it, and goes with it."""

import contextlib
import hashlib
import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path


def _base(variable: str, otherwise: str) -> Path:
    named = os.environ.get(variable, "")
    return (Path(named) if named.startswith("/") else Path.home() / otherwise) / "flambeau"


def cache() -> Path:
    """Return the folder for what is worth keeping between clusters: the build."""
    return _base("XDG_CACHE_HOME", ".cache")


@dataclass(frozen=True, slots=True)
class Keeper:
    """The process that a cluster lives and dies with."""

    pid: int
    started: int  # in clock ticks since boot: with it, a pid that was given again is told apart
    tier: int
    kind: str = "built"
    nodes: int = 1

    @property
    def alive(self) -> bool:
        """Whether that very process runs."""
        return process_start(self.pid) == self.started


@dataclass(frozen=True, slots=True)
class Place:
    """The folder of one cluster."""

    root: Path

    @property
    def kubeconfig(self) -> Path:
        """The administrator's kubeconfig, good inside and outside of the namespaces."""
        return self.root / "kubeconfig"

    @property
    def kubectl(self) -> Path:
        """The kubectl of the cluster's own version."""
        return self.root / "bin" / "kubectl"

    @property
    def logs(self) -> Path:
        """One file for each program."""
        return self.root / "logs"

    @property
    def audit(self) -> Path:
        """What pods' accounts asked the API server, a line of JSON for each answer."""
        return self.root / "audit.log"

    @property
    def progress(self) -> Path:
        """What the keeper and the supervisor say."""
        return self.root / "progress.log"

    @property
    def ready(self) -> Path:
        """Exists once the cluster can be used."""
        return self.root / "ready"

    @property
    def cgroup(self) -> str:
        """The name of the cluster's cgroup in every hierarchy."""
        return f"flambeau-{hashlib.sha256(bytes(self.root)).hexdigest()[:12]}"

    def wish(self, name: str) -> Path:
        """Exists while somebody wants it: `PROGRAM.stop` or `PROGRAM.freeze`."""
        return self.root / "wishes" / name

    def granted(self, name: str) -> Path:
        """Exists while it is so because somebody wants it."""
        return self.root / "wishes" / f"{name}.granted"

    def make(self) -> None:
        """Make the folder, for root's or the user's eyes only: it holds keys."""
        self.root.mkdir(parents=True, mode=0o700)
        for part in (self.logs, self.root / "bin", self.root / "wishes"):
            part.mkdir()

    def forget(self) -> None:
        """Remove the folder's own folder if nothing else is in it."""
        with contextlib.suppress(OSError):
            self.root.parent.rmdir()

    def keeper(self) -> Keeper | None:
        """Return the keeper on record, alive or not."""
        try:
            return Keeper(**json.loads((self.root / "keeper.json").read_text()))
        except FileNotFoundError:
            return None

    def record(self, keeper: Keeper) -> None:
        """Write down who keeps the cluster."""
        (self.root / "keeper.json").write_text(json.dumps(asdict(keeper)))


def default_place() -> Place:
    """Return where `make cluster-up` puts its cluster."""
    return Place(_base("XDG_STATE_HOME", ".local/state") / "cluster")


def process_start(pid: int) -> int | None:
    """Return when a process started, in clock ticks since boot; None if it is gone or a zombie."""
    with contextlib.suppress(OSError):
        # The name, in parentheses, may hold anything; what follows the last one does not.
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return None if fields[0] == "Z" else int(fields[19])
    return None


def child_of(pid: int) -> int | None:
    """Return a child of a process."""
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            if int(stat.read_text().rpartition(")")[2].split()[1]) == pid:
                return int(stat.parent.name)
    return None
