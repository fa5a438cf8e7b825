"""How whoever waits for a cluster is told how far it is."""

import sys
from collections.abc import Callable

Say = Callable[[str], None]


def on_stderr(text: str) -> None:
    """Tell whoever reads standard error."""
    sys.stderr.write(f"{text}\n")
