"""The pods of one deployment: as many as wanted, of the template wanted, behind one balancer."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from flambeau_operator.doors import Pod
from flambeau_operator.local.balancer import Balancer
from flambeau_operator.local.pod import LocalPod, Surroundings, Template, lowest_free
from flambeau_operator.local.replicas import Member, next_changes
from flambeau_operator.plan import config_properties
from flambeau_operator.plan.children import Children, PodTemplate
from flambeau_operator.resources.model_deployment import Spec
from flambeau_operator.resources.quantities import bytes_of

CONFIG: Final = "config.properties"
MEMORY_LIMIT: Final = "FLAMBEAU_MEMORY_LIMIT"


@dataclass(frozen=True, slots=True)
class Place:
    """Where a set of pods lives."""

    name: str  # of the deployment
    folder: Path
    command: tuple[str, ...]  # how to start a runtime, without flags
    boot_file: Path  # no pod starts before it exists


class PodSet:
    """Starts and stops pods until they are what `children` ask for, for as long as it runs."""

    def __init__(self, place: Place, balancer: Balancer, surroundings: Surroundings) -> None:
        self.balancer = balancer
        self._place = place
        self._told = surroundings.changed
        self._around = replace(
            surroundings, changed=self._pod_changed, until_free=balancer.until_free
        )
        self._children: Children | None = None
        self._pods: dict[str, LocalPod] = {}
        self._news = asyncio.Event()
        self._closing = False

    @property
    def pods(self) -> tuple[LocalPod, ...]:
        """Every pod, oldest first, those that leave included."""
        return tuple(self._pods.values())

    def facts(self) -> tuple[Pod, ...]:
        """Return every pod as the door shows it, by name."""
        return tuple(self._pods[name].facts() for name in sorted(self._pods))

    def want(self, children: Children) -> None:
        """Make these the wish from now on."""
        self._children = children
        self._news.set()

    def look(self) -> None:
        """Something outside has changed that may let pods start."""
        self._news.set()

    def ask_to_close(self, grace_s: float) -> None:
        """Stop every pod without waiting for idle connections; `run` returns when all are gone."""
        self._closing = True
        for pod in self.pods:
            pod.ask_to_stop(0, min(grace_s, self._grace_s))
        self._news.set()

    async def run(self) -> None:
        """Keep the pods as wanted until closed."""
        async with asyncio.TaskGroup() as tasks:
            while not (self._closing and not self._pods):
                self._news.clear()
                if not self._closing and self._children is not None:
                    self._step(self._children, tasks)
                await self._news.wait()

    @property
    def _grace_s(self) -> float:
        return self._children.termination_grace_s if self._children else 0.0

    def _step(self, children: Children, tasks: asyncio.TaskGroup) -> None:
        """Take the next step towards the wish."""
        template_hash = children.template.template_hash
        staying = [pod for pod in self.pods if not pod.terminating]
        members = [
            Member(pod.name, pod.template.template_hash == template_hash, pod.ready)
            for pod in staying
        ]
        changes = next_changes(members, children.replicas)
        for name in changes.stop:
            self._pods[name].ask_to_stop(children.drain_delay_s, children.termination_grace_s)
        if self._place.boot_file.exists():
            for _ in range(changes.start):
                self._start(children, tasks)

    def _start(self, children: Children, tasks: asyncio.TaskGroup) -> None:
        template = children.template
        name = lowest_free(tuple(self._pods), f"{self._place.name}-{template.template_hash[:5]}")
        folder = self._place.folder / "pods" / name
        shutil.rmtree(folder, ignore_errors=True)  # of an earlier session
        pod = LocalPod(
            Template(
                name=name,
                owner_uid=template.owner_uid,
                template_hash=template.template_hash,
                argv=(*self._place.command, *self._flags(template, folder)),
                folder=folder,
                files={CONFIG: config_properties.render(template.runtime_config)}
                if template.runtime_config
                else {},
                environment=declared_limits(children.spec),
            ),
            self._around,
        )
        self._pods[name] = pod
        tasks.create_task(self._see_through(pod), name=f"pod {name}")

    def _flags(self, template: PodTemplate, folder: Path) -> tuple[str, ...]:
        flags = {
            "--inference-address": "127.0.0.1:0",
            "--management-address": "127.0.0.1:0",
            "--metrics-address": "127.0.0.1:0",
            "--state-dir": str(folder / "state"),
            "--boot-file": str(self._place.boot_file),
            "--owner-uid": template.owner_uid,
        }
        if template.runtime_config:
            flags["--ts-config"] = str(folder / CONFIG)
        return tuple(part for flag in flags.items() for part in flag)

    async def _see_through(self, pod: LocalPod) -> None:
        """Be with one pod to its end."""
        try:
            await pod.run()
        finally:
            del self._pods[pod.name]
            self._pod_changed()
            with contextlib.suppress(OSError):
                shutil.rmtree(pod.template.folder / "state")  # its log stays, for people

    def _pod_changed(self) -> None:
        self.balancer.use(pod.backend for pod in self.pods if pod.backend is not None)
        self._news.set()
        self._told()


def declared_limits(spec: Spec) -> dict[str, str]:
    """Return what tells a runtime its limits: no control group holds a process of ours to them."""
    memory = spec.resources.limits.get("memory")
    return {} if memory is None else {MEMORY_LIMIT: str(bytes_of(memory))}
