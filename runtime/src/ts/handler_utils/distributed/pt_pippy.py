"""`ts.handler_utils.distributed.pt_pippy`: named, and refused with what to do instead."""

from __future__ import annotations

from typing import Any, NoReturn

WHY = (
    "a worker is one process here: parallelType pp, tp and pptp, which start torchrun, do not exist"
    " in this release; split the model over the devices of one process instead, with parallelType:"
    " custom"
)


def initialize_rpc_workers(local_rank: int, world_size: int, ctx: Any) -> NoReturn:  # noqa: ANN401, ARG001  TorchServe's
    """Refuse: there are no other stages to join."""
    raise RuntimeError(f"pippy: {WHY}")


def get_pipeline_driver(model: Any, world_size: int, ctx: Any) -> NoReturn:  # noqa: ANN401, ARG001  TorchServe's
    """Refuse: there are no other stages to drive."""
    raise RuntimeError(f"pippy: {WHY}")
