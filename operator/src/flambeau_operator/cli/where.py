"""Where the command line says to look for a ModelDeployment."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Where:
    """Where to look, as the command line says."""

    namespace: str | None = None
    context: str | None = None
    kubeconfig: str | None = None
    local: bool = False
    session: int | None = None  # the process id of a `flambeau up`
    cluster_only: bool = False  # asked as a plugin of kubectl

    @property
    def on_this_machine(self) -> bool:
        """Whether a cluster is out of the question."""
        return self.local or self.session is not None

    @property
    def in_a_cluster(self) -> bool:
        """Whether `flambeau up` is out of the question."""
        return self.cluster_only or self.context is not None or self.kubeconfig is not None
