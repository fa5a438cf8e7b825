"""The programs of a cluster, watched together: one that ends, or an owner who leaves, ends all."""

import contextlib
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from e2e.cluster.faults import NotReady, ProgramDied
from e2e.cluster.place import Place


class OwnerGone(BaseException):
    """Nobody wants the cluster any more: not a fault."""


@dataclass(frozen=True, slots=True)
class _Program:
    argv: tuple[str, ...]
    keep: tuple[int, ...]  # descriptors that it inherits
    log: Path

    def start(self) -> subprocess.Popen[bytes]:
        with self.log.open("ab") as log:
            return subprocess.Popen(
                self.argv,
                env=_environment(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                pass_fds=self.keep,
            )


class Programs:
    """Started by name, each with a log of its own.

    Args:
        place: the cluster's folder.
        owner: a descriptor that reads as ended when the owner is gone.
    """

    def __init__(self, place: Place, owner: int) -> None:
        self._place = place
        self._owner = owner
        self._known: dict[str, _Program] = {}
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        self._begin = time.monotonic()

    def say(self, text: str) -> None:
        """Tell how far it is, with the seconds since the beginning."""
        sys.stdout.write(f"{time.monotonic() - self._begin:6.1f} s  {text}\n")
        sys.stdout.flush()

    def start(self, name: str, argv: Iterable[str | Path], keep: tuple[int, ...] = ()) -> int:
        """Start one and return its pid; `keep` names the descriptors that it inherits."""
        words = tuple(str(word) for word in argv)
        self._known[name] = _Program(words, keep, self._place.logs / f"{name}.log")
        self._running[name] = self._known[name].start()
        return self._running[name].pid

    def wait_until(self, what: str, true: Callable[[], bool], seconds: float) -> None:
        """Wait for a condition; raise NotReady, or ProgramDied as soon as one has died."""
        deadline = time.monotonic() + seconds
        while not true():
            self.check(0.05)
            if time.monotonic() > deadline:
                raise NotReady(what, seconds)
        self.say(what)

    def check(self, wait_s: float) -> None:
        """Look after everything once, for up to `wait_s` seconds.

        Raises:
            OwnerGone: the owner has left.
            ProgramDied: a program ended.
        """
        if select.select([self._owner], [], [], wait_s)[0]:
            raise OwnerGone
        for name, process in self._running.items():
            status = process.poll()
            if status is not None:
                raise ProgramDied(name, status, self._known[name].log)
        if os.getpid() == 1:
            self._bury()

    def obey(self) -> None:
        """Stop or freeze what somebody wants so; let it go on when nobody does any more."""
        for name in self._known:
            self._follow(name, "stop", self._stop, self._start_again)
            self._follow(name, "freeze", self._freeze, self._thaw)

    def _follow(
        self, name: str, verb: str, begin: Callable[[str], None], end: Callable[[str], None]
    ) -> None:
        wish, granted = (each(f"{name}.{verb}") for each in (self._place.wish, self._place.granted))
        if wish.exists() and not granted.exists():
            begin(name)
            granted.touch()
        elif granted.exists() and not wish.exists():
            end(name)
            granted.unlink()

    def _stop(self, name: str) -> None:
        process = self._running.pop(name)
        process.kill()
        process.wait()

    def _start_again(self, name: str) -> None:
        self._running[name] = self._known[name].start()

    def _freeze(self, name: str) -> None:
        self._running[name].send_signal(signal.SIGSTOP)

    def _thaw(self, name: str) -> None:
        self._running[name].send_signal(signal.SIGCONT)

    def _bury(self) -> None:
        # The first process of a PID namespace inherits every orphan: containerd's shims, for one.
        ours = {process.pid for process in self._running.values()}
        while True:
            with contextlib.suppress(ChildProcessError):
                dead = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
                if dead is not None and dead.si_pid not in ours:
                    os.waitpid(dead.si_pid, 0)
                    continue
            return

    def kill(self) -> None:
        """End everything at once: nothing of a cluster is worth a slow farewell."""
        for process in reversed(self._running.values()):
            process.send_signal(signal.SIGKILL)
        for process in self._running.values():
            process.wait()


def _environment() -> Mapping[str, str]:
    # Nothing of the user's shell reaches the daemons: proxies above all.
    kept = {name: os.environ[name] for name in ("PATH", "LANG", "TMPDIR") if name in os.environ}
    kept["PATH"] = f"{kept.get('PATH', '')}:/usr/sbin:/sbin"  # a user's may lack iptables
    return kept | {"HYPERKUBE_DIE_WITH_PARENT": "1"}
