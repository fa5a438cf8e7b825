"""How a worker process comes to be: forked from the template in 0.1 s, or executed in 3 s."""

from __future__ import annotations

import os
import socket
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

from flambeau_runtime.serving.template_link import ForkOrder, TemplateGone, TemplateLink
from flambeau_runtime.serving.worker_output import WorkerOutput
from flambeau_runtime.serving.worker_process import WorkerProcess, ended_child, watch_exit


@dataclass(frozen=True, slots=True)
class Birth:
    """What a worker process is born with."""

    name: str  # W-9000-model_1.0
    directory: str
    additions: Mapping[str, str]  # on top of the front's environment
    threads: int
    may_fork: bool  # nothing of it has to be set before torch is imported
    python: str  # the interpreter, where it is executed
    wants_torch: bool  # worth to wait for the template's import of it


class Spawner:
    """Starts worker processes; `template` is None where every worker is executed."""

    def __init__(self, base: Mapping[str, str], template: TemplateLink | None) -> None:
        self._base = base
        self._template = template

    async def spawn(self, birth: Birth, sock: socket.socket, arena_fd: int | None) -> WorkerProcess:
        """Start a worker on its end of a socket pair; the caller closes its copy afterwards.

        Raises:
            OSError: the machine has no room for another process.
        """
        (life_end, lifeline), (output, output_end), (errors, errors_end) = _pipes(3)
        arena = [] if arena_fd is None else [arena_fd]
        theirs = [sock.fileno(), life_end, output_end, errors_end, *arena]
        try:
            return await self._start(birth, _Ends(theirs, output, errors, lifeline))
        except BaseException:
            for fd in (output, errors, lifeline):
                os.close(fd)
            raise
        finally:
            for fd in (life_end, output_end, errors_end):
                os.close(fd)

    async def _start(self, birth: Birth, ends: _Ends) -> WorkerProcess:
        template = self._template
        if template is not None and birth.may_fork and (template.ready or birth.wants_torch):
            order = ForkOrder(birth.directory, birth.additions, birth.threads, ends.theirs)
            try:
                pid = await template.fork(order)
            except TemplateGone:
                return self._execute(birth, ends)
            process = ends.process(pid, birth.name)
            template.adopt(process)
            return process
        return self._execute(birth, ends)

    def _execute(self, birth: Birth, ends: _Ends) -> WorkerProcess:
        sock, life, output, errors, *arena = ends.theirs
        command = [birth.python, "-P", "-m", "flambeau_runtime.worker"]
        command += ["--fd", str(sock), "--lifeline-fd", str(life)]
        for fd in arena:
            command += ["--arena-fd", str(fd)]
        child = subprocess.Popen(  # noqa: S603  our own module, by this interpreter
            command,
            cwd=birth.directory,
            env={**self._base, **birth.additions},
            pass_fds=[sock, life, *arena],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=errors,
            start_new_session=True,
        )
        process = ends.process(child.pid, birth.name)
        watch_exit(process, partial(ended_child, child))
        return process


def _pipes(count: int) -> list[tuple[int, int]]:
    """Return so many pipes, or leave none open."""
    made: list[tuple[int, int]] = []
    try:
        made.extend(os.pipe() for _ in range(count))
    except OSError:
        for fd in (end for pipe in made for end in pipe):
            os.close(fd)
        raise
    return made


@dataclass(frozen=True, slots=True)
class _Ends:
    """The descriptors of one spawn: `theirs` go to the worker, the others stay."""

    theirs: list[int]  # socket, lifeline, stdout, stderr, and the arena if any
    output: int
    errors: int
    lifeline: int

    def process(self, pid: int, name: str) -> WorkerProcess:
        return WorkerProcess(pid, self.output, self.lifeline, WorkerOutput(name), self.errors)
