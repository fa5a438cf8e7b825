"""`ts.handler_utils.distributed.deepspeed`: named, and refused with what to do instead."""

from __future__ import annotations

from typing import Any, NoReturn

from ts.handler_utils.distributed.pt_pippy import WHY


def get_ds_engine(model: Any, ctx: Any) -> NoReturn:  # noqa: ANN401, ARG001  TorchServe's
    """Refuse: DeepSpeed's engine spreads a model over processes that do not exist here."""
    raise RuntimeError(f"deepspeed: {WHY}")
