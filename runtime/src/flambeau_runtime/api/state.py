"""`/live /ready /state /drain` on the management port: the wish comes in, the facts go out."""

from __future__ import annotations

from fastapi import APIRouter

from flambeau_runtime.api.authorisation import StateGate
from flambeau_runtime.serving.accepted import AcceptedDocument
from flambeau_runtime.serving.catalogue import Catalogue


def make_state_router(
    catalogue: Catalogue, gate: StateGate, accepted: AcceptedDocument | None = None
) -> APIRouter:
    """Return the routes; `accepted` is None on an unmanaged runtime, which takes no documents."""
    raise NotImplementedError
