"""The front's end of the template process: orders out, pids and ends of children in."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import socket
import struct
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any

from flambeau_runtime.serving.crash_budget import CrashBudget
from flambeau_runtime.serving.worker_output import WorkerOutput
from flambeau_runtime.serving.worker_process import WorkerProcess, ended_child, is_gone, watch_exit

TEMPLATE = "flambeau_runtime.worker.template"
LENGTH = struct.Struct("<I")
PRELOAD_S = 120.0  # for the import of torch, from a cold and slow disk
ANSWER_S = 20.0
SETTLED_S = 60.0

_COMMAND = (sys.executable, "-P", "-m", TEMPLATE, "--fd")

log = logging.getLogger(__name__)


class TemplateGone(Exception):
    """There is no template process to fork from now: start the worker another way."""


@dataclass(frozen=True, slots=True)
class ForkOrder:
    """What the template gives a child.

    The descriptors are socket, lifeline, stdout, stderr, and the arena if any.
    """

    directory: str
    environment: Mapping[str, str]
    threads: int
    descriptors: Sequence[int]


class TemplateLink:
    """Keeps one template process alive while `run` runs.

    It starts without torch, whose import costs seconds of CPU time and 300 MB: `preload` asks for
    that once a model wants it.
    """

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._environment = environment
        self._control: socket.socket | None = None
        self._ordering = asyncio.Lock()
        self._born: asyncio.Future[int] | None = None
        self._number = 0
        self._wants_torch = False
        self._up = False  # it listens
        self._importing = False
        self._process: WorkerProcess | None = None
        self._children: dict[int, WorkerProcess] = {}
        self._unclaimed: dict[int, int | None] = {}  # born, not adopted: perhaps dead already

    @property
    def pid(self) -> int | None:
        """The template's process id."""
        return None if self._process is None else self._process.pid

    @property
    def ready(self) -> bool:
        """Whether everything that is wanted is imported: an order takes milliseconds."""
        return self._up and not self._importing

    def preload(self) -> None:
        """Have torch imported for the workers to come, also after the template's death."""
        if self._wants_torch:
            return
        self._wants_torch = True
        if self._control is None:
            return  # the next one is started with torch
        self._importing = True
        try:
            self._send(self._control, {"preload": True})
        except OSError:
            self._hang_up()

    def start(self) -> None:
        """Start the process; what it imports runs beside everything else.

        Raises:
            OSError: the machine has no room for another process.
        """
        front, child = socket.socketpair()
        front.setblocking(False)
        read_end, write_end = os.pipe()
        try:
            template = subprocess.Popen(  # noqa: S603  our own module, by this interpreter
                [*_COMMAND, str(child.fileno()), *(["--preload"] if self._wants_torch else [])],
                env=dict(self._environment),
                pass_fds=[child.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=write_end,
                stderr=write_end,
                start_new_session=True,
            )
        except OSError:
            os.close(read_end)
            front.close()
            raise
        finally:
            os.close(write_end)
            child.close()
        self._process = WorkerProcess(template.pid, read_end, None, WorkerOutput("template"))
        watch_exit(self._process, lambda: ended_child(template))
        self._control = front

    async def run(self) -> None:
        """Hear what it says; start it again, with growing pauses, when it dies."""
        loop = asyncio.get_running_loop()
        pauses = CrashBudget(window_s=float("inf"))
        while True:
            began = loop.time()
            try:
                if self._control is None:
                    self.start()
                await self._listen()
            except OSError as error:
                log.warning("template process failed", extra={"error": str(error)})
            finally:
                await self._bury()
            if loop.time() - began > SETTLED_S:
                pauses.reset()
            pause_s = pauses.spend(loop.time()) or 0.0
            log.warning("template process ended", extra={"retry_in_s": pause_s})
            await asyncio.sleep(pause_s)

    async def fork(self, order: ForkOrder) -> int:
        """Have a worker forked and return its pid; `adopt` must follow at once.

        Raises:
            TemplateGone: the template is not there, died meanwhile, or does not answer.
        """
        async with self._ordering:
            if self._control is None:
                raise TemplateGone
            limit_s = ANSWER_S if self.ready else PRELOAD_S
            self._born = asyncio.get_running_loop().create_future()
            self._number += 1
            try:
                self._order(self._control, order)
                async with asyncio.timeout(limit_s):
                    return await self._born
            except (OSError, TimeoutError):
                self._hang_up()
                raise TemplateGone from None
            finally:
                self._born = None

    def adopt(self, process: WorkerProcess) -> None:
        """Tell this process its end when the template reports it."""
        code = self._unclaimed.pop(process.pid, None)
        if code is not None:
            process.saw_exit(code)
        elif self._control is None:
            watch_exit(process, partial(is_gone, process.pid))
        else:
            self._children[process.pid] = process

    def _order(self, control: socket.socket, order: ForkOrder) -> None:
        fields = {
            "number": self._number,
            "directory": order.directory,
            "environment": dict(order.environment),
            "threads": order.threads,
        }
        self._send(control, fields, order.descriptors)

    def _send(
        self, control: socket.socket, fields: Mapping[str, Any], descriptors: Sequence[int] = ()
    ) -> None:
        body = json.dumps(fields).encode()
        message = LENGTH.pack(len(body)) + body
        sent = socket.send_fds(control, [message], list(descriptors))
        if sent < len(message):  # an environment larger than the socket's buffer
            raise BlockingIOError

    async def _listen(self) -> None:
        loop = asyncio.get_running_loop()
        pending = b""
        while self._control is not None:
            chunk = await loop.sock_recv(self._control, 4096)
            if not chunk:
                return
            *lines, pending = (pending + chunk).split(b"\n")
            for line in lines:
                self._heard(json.loads(line))

    def _heard(self, fact: Mapping[str, Any]) -> None:
        if fact.get("order") == self._number and self._born is not None:
            self._answered(self._born, fact)
        elif "ready" in fact:
            self._up = True
        elif "preloaded" in fact:
            self._importing = False
        elif "exited" in fact:
            pid, code = fact["exited"], fact["status"]
            if pid in self._children:
                self._children.pop(pid).saw_exit(code)
            elif pid in self._unclaimed:
                self._unclaimed[pid] = code

    def _answered(self, born: asyncio.Future[int], fact: Mapping[str, Any]) -> None:
        if born.done():
            return
        if "refused" in fact:
            log.warning("worker is executed, not forked", extra={"why": fact["refused"]})
            born.set_exception(TemplateGone())
            return
        self._unclaimed[fact["pid"]] = None
        born.set_result(fact["pid"])

    def _hang_up(self) -> None:
        """Give this template up; `run` sees the end of the stream and starts another."""
        if self._control is not None:
            with suppress(OSError):
                self._control.shutdown(socket.SHUT_RDWR)
        if self._born is not None and not self._born.done():
            self._born.set_exception(OSError("the template process ended"))

    async def _bury(self) -> None:
        """Workers outlive their template, but their exit codes are lost with it."""
        self._hang_up()
        self._up = self._importing = False
        control, self._control = self._control, None
        process, self._process = self._process, None
        children, self._children = self._children, {}
        self._unclaimed.clear()
        for child in children.values():
            watch_exit(child, partial(is_gone, child.pid))
        if control is not None:
            control.close()
        if process is not None:
            await process.end(grace_s=0.0)
