"""A worker process: `python -m flambeau_runtime.worker --fd N [--arena-fd M] [--lifeline-fd L]`."""

from __future__ import annotations

import argparse
import socket
import sys

from flambeau_runtime.worker import lifeline, loop, surroundings


def main(arguments: list[str] | None = None) -> int:
    """Serve one model on an inherited socket until the front closes it."""
    parser = argparse.ArgumentParser(prog="flambeau_runtime.worker")
    parser.add_argument("--fd", type=int, required=True, help="connected socket to the front")
    parser.add_argument("--arena-fd", type=int, default=None, help="memory shared with the front")
    parser.add_argument("--lifeline-fd", type=int, default=None, help="pipe held by the front")
    options = parser.parse_args(arguments)
    if options.lifeline_fd is not None:
        lifeline.hold(options.lifeline_fd)
    surroundings.settle()
    return loop.serve(socket.socket(fileno=options.fd), options.arena_fd)


if __name__ == "__main__":
    sys.exit(main())
