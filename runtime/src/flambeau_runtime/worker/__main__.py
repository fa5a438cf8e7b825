"""A worker process: `python -m flambeau_runtime.worker --fd N [--arena-fd M]`."""

from __future__ import annotations

import argparse
import socket
import sys

from flambeau_runtime.worker import loop


def main(arguments: list[str] | None = None) -> int:
    """Serve one model on an inherited socket until the front closes it."""
    parser = argparse.ArgumentParser(prog="flambeau_runtime.worker")
    parser.add_argument("--fd", type=int, required=True, help="connected socket to the front")
    parser.add_argument("--arena-fd", type=int, default=None, help="memory shared with the front")
    options = parser.parse_args(arguments)
    return loop.serve(socket.socket(fileno=options.fd), options.arena_fd)


if __name__ == "__main__":
    sys.exit(main())
