"""Reads a pod as the operator's core wants it, and its troubles in Kubernetes' own words."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any, Final

from flambeau_operator import names
from flambeau_operator.doors import Key, Pod
from flambeau_operator.kubernetes.client import Object
from flambeau_operator.kubernetes.informer import Kept
from flambeau_operator.resources.observed import Trouble

FINISHED: Final = frozenset({"Succeeded", "Failed"})  # evicted ones, too: others take their place
ON_ITS_WAY: Final = frozenset({"ContainerCreating", "PodInitializing"})


def keep_pod(body: Object) -> Kept[Pod] | None:
    """Return what is remembered of a pod; None for one that has ended for good."""
    if body.get("status", {}).get("phase") in FINISHED:
        return None
    metadata = body["metadata"]
    owner = Key(metadata["namespace"], metadata.get("labels", {}).get(names.NAME_LABEL, ""))
    return Kept(owner, read_pod(body))


def read_pod(body: Object) -> Pod:
    """Return the facts of a pod."""
    metadata, status = body["metadata"], body.get("status", {})
    labels = metadata.get("labels", {})
    runtime = _runtime(status)
    running = runtime.get("state", {}).get("running")
    return Pod(
        name=metadata["name"],
        uid=metadata["uid"],
        owner_uid=labels.get(names.UID_LABEL, ""),
        template_hash=labels.get(names.TEMPLATE_LABEL, ""),
        address=_address(status.get("podIP", "")),
        # Before its startup probe has passed, nobody answers yet.
        running=running is not None and runtime.get("started", True),
        terminating="deletionTimestamp" in metadata,
        restarts=int(runtime.get("restartCount", 0)),
        started_at=datetime.fromisoformat(running["startedAt"]) if running else None,
        ready=_condition(status, "Ready").get("status") == "True",
        trouble=next(_troubles(status), None),
    )


def _address(ip: str) -> str:
    host = f"[{ip}]" if ":" in ip else ip
    return f"http://{host}:{names.MANAGEMENT_PORT}" if ip else ""


def _runtime(status: Object) -> Mapping[str, Any]:
    containers = status.get("containerStatuses", ())
    found = (each for each in containers if each["name"] == names.RUNTIME_CONTAINER)
    return next(found, {})


def _condition(status: Object, kind: str) -> Mapping[str, Any]:
    return next((each for each in status.get("conditions", ()) if each["type"] == kind), {})


def _troubles(status: Object) -> Iterator[Trouble]:
    """Yield why the pod does not run, the first cause first."""
    scheduled = _condition(status, "PodScheduled")
    if scheduled.get("status") == "False":
        yield Trouble(scheduled.get("reason", "Unschedulable"), scheduled.get("message", ""))
    for part in ("initContainerStatuses", "containerStatuses"):
        for container in status.get(part, ()):
            waiting = container.get("state", {}).get("waiting")
            if waiting and waiting.get("reason") not in ON_ITS_WAY:
                yield Trouble(waiting.get("reason", "Waiting"), _said(container, waiting))


def _said(container: Object, waiting: Object) -> str:
    """Return the kubelet's message, and how the container ended the last time."""
    last = container.get("lastState", {}).get("terminated")
    parts = [f"container {container['name']}: {waiting.get('message', 'waits')}"]
    if last:
        tail = last.get("message", "").strip()
        parts.append(f"last exit code {last.get('exitCode')} ({last.get('reason', '')})")
        parts += [tail] if tail else []
    return "; ".join(parts)
