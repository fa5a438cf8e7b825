"""`BaseDeepSpeedHandler`: the handler to derive from for DeepSpeed."""

from __future__ import annotations

import os
from typing import Any

from ts.torch_handler.base_handler import BaseHandler


class BaseDeepSpeedHandler(BaseHandler):
    """Its device is the index of its process; a derived class loads the model."""

    def initialize(self, ctx: Any) -> None:  # noqa: ANN401, ARG002  any context
        """Take the device of this process, LOCAL_RANK, or 0 where there is only one."""
        self.device = int(os.environ.get("LOCAL_RANK", "0"))
