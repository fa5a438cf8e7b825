"""Where a ModelDeployment is: in a cluster, or in a `flambeau up` of this machine."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Mapping
from typing import Any, Protocol

from flambeau_operator.cli import on_cluster, on_machine
from flambeau_operator.cli.where import Where
from flambeau_operator.doors import Key
from flambeau_operator.errors import OperatorFault, Unavailable
from flambeau_operator.resources.pod_state import Document

LOCAL_NAMESPACE = "default"


class NoSuchDeployment(OperatorFault):
    """What is asked about is not there."""


class Place(Protocol):
    """Something that holds ModelDeployments. Every method may raise Unavailable or Rejected."""

    @property
    def label(self) -> str:
        """What people call it: `context dev`, `flambeau up, pid 7`."""

    async def read(self, key: Key) -> Mapping[str, Any] | None:
        """Return the object, status included; None when there is none."""

    async def change(
        self,
        key: Key,
        uid: str,
        annotations: Mapping[str, str | None],
        paused: bool | None = None,
    ) -> Mapping[str, Any]:
        """Set annotations and `spec.rollout.paused`, and return the object.

        Raises:
            Conflict: the object of this uid is gone.
        """

    async def committed(self, key: Key) -> Document | None:
        """Return what a starting pod boots from; None if that cannot be known."""

    async def modes(
        self, key: Key, manifest: Mapping[str, Any]
    ) -> Mapping[str, tuple[str | None, str]]:
        """Return how candidates of a manifest would come in and why, by what the pods measure.

        The key is `MODEL@VERSION`; nothing is in it of what cannot be known.
        """

    async def refusal(self, manifest: Mapping[str, Any]) -> str | None:
        """Return why the manifest would not be taken; None when it would, or nobody can tell."""


@contextlib.asynccontextmanager
async def find(where: Where, name: str) -> AsyncIterator[tuple[Place, Key]]:
    """Find the place that has a ModelDeployment of this name, or would have it.

    Unless the command line says which, a `flambeau up` that serves it goes before the cluster of
    the kubeconfig.

    Raises:
        NoSuchDeployment: nothing here has it, or more than one has.
        InvalidSettings: the kubeconfig cannot be used.
    """
    key = Key(where.namespace or LOCAL_NAMESPACE, name)
    if not where.in_a_cluster:
        session = await _session_of(where, key)
        if session is not None:
            yield session, key
            return
    kubeconfig = on_cluster.find_kubeconfig(where.kubeconfig)
    if where.on_this_machine or kubeconfig is None:
        raise NoSuchDeployment(_nowhere(where, key, kubeconfig))
    async with on_cluster.reached(kubeconfig, where.context) as (cluster, namespace):
        yield cluster, Key(where.namespace or namespace, name)


async def _session_of(where: Where, key: Key) -> on_machine.Session | None:
    found = [each for each in await on_machine.sessions() if key in each.keys]
    if where.session is not None:
        found = [each for each in found if each.pid == where.session]
    if len(found) > 1:
        pids = " or ".join(str(each.pid) for each in found)
        raise NoSuchDeployment(f"{key} is served by {len(found)} flambeau up: add --session {pids}")
    return found[0] if found else None


def _nowhere(where: Where, key: Key, kubeconfig: str | None) -> str:
    if where.session is not None:
        return f"no flambeau up with pid {where.session} serves {key}"
    if where.on_this_machine or (kubeconfig is None and not where.in_a_cluster):
        cluster = "" if where.on_this_machine else ", and there is no kubeconfig to find a cluster"
        return f"no flambeau up on this machine serves {key}{cluster}"
    return "there is no kubeconfig: set KUBECONFIG, or give --kubeconfig"


async def read(place: Place, key: Key) -> Mapping[str, Any]:
    """Return the object.

    Raises:
        NoSuchDeployment: there is none.
        Unavailable: it cannot be read now.
    """
    body = await place.read(key)
    if body is None:
        raise NoSuchDeployment(f"there is no ModelDeployment {key} ({place.label})")
    if not isinstance(body.get("metadata"), Mapping):
        raise Unavailable(f"{place.label} answers with something that is no object")
    return body
