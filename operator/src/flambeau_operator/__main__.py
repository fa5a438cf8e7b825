"""`python -m flambeau_operator`: settings → run."""

from __future__ import annotations

import asyncio
import logging
import os
import sys

from flambeau_operator import controller, logs
from flambeau_operator.errors import OperatorFault
from flambeau_operator.settings import read_settings

log = logging.getLogger(__name__)


def main() -> int:
    """Run the operator and return its exit code: 0 as asked, 1 it could not go on."""
    logs.configure(logging.INFO)
    try:
        settings = read_settings(os.environ)
        logs.configure(settings.log_level)
        asyncio.run(controller.operate(settings))
    except OperatorFault as fault:
        log.critical("cannot run", extra={"why": str(fault)})
        return 1
    except Exception:
        log.critical("cannot go on", exc_info=True)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
