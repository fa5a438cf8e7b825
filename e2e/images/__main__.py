"""`python -m e2e.images [NAME …]`: what `make images` calls."""

import argparse
import signal
import sys

from e2e.cluster.faults import ClusterFault
from e2e.images import build
from e2e.images.recipes import RECIPES


def main() -> int:
    """Build what is missing and say where it is; faults become one message and status 1."""
    by_name = {recipe.name: recipe for recipe in RECIPES}
    parser = argparse.ArgumentParser(prog="python -m e2e.images", description=__doc__)
    parser.add_argument("names", metavar="NAME", nargs="*", help=f"one of {', '.join(by_name)}")
    names = parser.parse_args().names or list(by_name)
    unknown = [name for name in names if name not in by_name]
    if unknown:
        parser.error(f"no image {unknown[0]!r}; there are {', '.join(by_name)}")
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _stop)
    try:
        archives = build.built(_say, [by_name[name] for name in names])
    except ClusterFault as fault:
        _say(f"error: {fault}")
        return 1
    except KeyboardInterrupt:
        _say("stopped; what was built before is kept")
        return 130
    for name, archive in archives.items():
        sys.stdout.write(f"{name:<36} {archive.stat().st_size / 1e6:5.0f} MB  {archive}\n")
    return 0


def _stop(*_: object) -> None:
    raise KeyboardInterrupt


def _say(text: str) -> None:
    sys.stderr.write(f"{text}\n")


if __name__ == "__main__":
    sys.exit(main())
