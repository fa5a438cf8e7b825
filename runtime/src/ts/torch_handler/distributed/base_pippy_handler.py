"""`BasePippyHandler`: the handler to derive from for pipelines over several processes."""

from __future__ import annotations

from typing import Any

from ts.handler_utils.distributed.pt_pippy import initialize_rpc_workers
from ts.torch_handler.base_handler import BaseHandler


class BasePippyHandler(BaseHandler):
    """Needs one process per stage of the pipeline."""

    def initialize(self, ctx: Any) -> None:  # noqa: ANN401  any context
        """Join the other stages.

        Raises:
            RuntimeError: always, as there are no others: see `initialize_rpc_workers`.
        """
        initialize_rpc_workers(0, 1, ctx)
