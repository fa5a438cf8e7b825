"""Where pods may run and what they may use."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, StrictInt, StringConstraints

from flambeau_operator.resources.quantities import Quantity
from flambeau_operator.resources.wish import DnsName, Opaque, Wish

ResourceName = Annotated[str, StringConstraints(max_length=253)]
Text = Annotated[str, StringConstraints(max_length=253)]


class Resources(Wish):
    """What each pod's runtime container asks for, and may use at most."""

    requests: Annotated[dict[ResourceName, Quantity], Field(max_length=32)] = Field(default={})
    """Reserved on the node: cpu, memory, ephemeral-storage, nvidia.com/gpu …"""
    limits: Annotated[dict[ResourceName, Quantity], Field(max_length=32)] = Field(default={})
    """The most it may use; the cpu limit is also shared out among the workers as threads."""


class Toleration(Wish):
    """A taint that pods put up with, as core/v1 has it."""

    key: Text | None = None
    """The taint's key; absent with operator Exists matches all."""
    operator: Literal["Exists", "Equal"] | None = None
    """Equal unless said otherwise."""
    value: Text | None = None
    """The taint's value, for Equal."""
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None = None
    """Absent matches every effect."""
    toleration_seconds: StrictInt | None = None
    """How long, for NoExecute."""


class Scheduling(Wish):
    """Where pods may run."""

    node_selector: Annotated[dict[Text, Text], Field(max_length=64)] = Field(default={})
    """Labels that a node must have."""
    tolerations: Annotated[tuple[Toleration, ...], Field(max_length=64)] = ()
    """Taints that pods put up with."""
    affinity: Opaque | None = None
    """As core/v1's Affinity, handed through."""
    topology_spread: Literal["Auto", "None"] = "Auto"
    """Auto spreads the pods over nodes, and over zones unless affinity is given, where it can."""
    priority_class_name: Text = ""
    """The pods' PriorityClass; empty takes the cluster's default."""
    queue_name: Text = ""
    """The Kueue LocalQueue that admits the pods; empty is none."""


class SecretReference(Wish):
    """A Secret of the namespace."""

    name: DnsName
    """Its name."""


class Credentials(Wish):
    """A Secret with what opens sources: keys named like environment variables, or known files."""

    name: DnsName
    """Sources refer to it by this name."""
    secret_ref: SecretReference
    """The Secret; it may come later than the pods."""


class Mounted(Wish):
    """A ConfigMap or a PersistentVolumeClaim of the namespace, mounted into the pods read-only."""

    name: DnsName
    """Its name; sources refer to it."""
