"""`flambeau-runtime`: flags, config.properties and environment → Settings → serve."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib import metadata
from pathlib import Path

from flambeau_runtime import serve
from flambeau_runtime.commands import cache, config_properties, memory_limit, property_values
from flambeau_runtime.commands.devices import count_devices
from flambeau_runtime.errors import InvalidSettings
from flambeau_runtime.settings import Address, Authorisation, Managed, Settings

EXAMPLES = """\
examples:
  serve one archive on TorchServe's ports (8080, 8081, 8082, loopback only):
    flambeau-runtime --model-store model_store --models classifier=classifier.mar

  serve every archive of a model store to the network, on other ports:
    flambeau-runtime --model-store model_store --models ALL \\
        --inference-address 0.0.0.0:9080 --management-address 127.0.0.1:9081

  take whatever ports are free; they are written to STATE/listening.json:
    flambeau-runtime --state-dir STATE --inference-address 127.0.0.1:0 \\
        --management-address 127.0.0.1:0 --metrics-address 127.0.0.1:0

  keep an existing TorchServe configuration:
    flambeau-runtime --ts-config config.properties
"""


def make_parser() -> argparse.ArgumentParser:
    """Return the command line of `flambeau-runtime`."""
    parser = argparse.ArgumentParser(
        prog="flambeau-runtime",
        description="Serve PyTorch models: TorchServe's archives, handlers and APIs, without Java.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    version = f"flambeau-runtime {metadata.version('flambeau-runtime')}"
    parser.add_argument("--version", action="version", version=version)
    _add_addresses(parser)
    _add_models(parser)
    _add_rest(parser)
    return parser


def _add_addresses(parser: argparse.ArgumentParser) -> None:
    for role, port in (("inference", 8080), ("management", 8081), ("metrics", 8082)):
        parser.add_argument(
            f"--{role}-address",
            metavar="HOST:PORT",
            help=f"where {role} listens (default 127.0.0.1:{port}; port 0 takes a free one)",
        )

    for role, port in (("inference", 7070), ("management", 7071)):
        parser.add_argument(
            f"--grpc-{role}-address",
            metavar="HOST:PORT",
            help=f"where {role} is served over gRPC, for example 127.0.0.1:{port} (default: it is"
            " not)",
        )


def _add_models(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--model-store", metavar="DIR", help="directory of archives")
    parser.add_argument(
        "--models",
        nargs="+",
        metavar="[NAME=]FILE",
        help="archives to serve from the start, or ALL of the model store",
    )
    parser.add_argument(
        "--ts-config", metavar="FILE", help="a config.properties; flags go before it"
    )


def _add_rest(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--state-dir",
        metavar="DIR",
        help="extracted archives, the last accepted document, listening.json"
        " (default: a temporary one)",
    )
    parser.add_argument(
        "--cache",
        metavar="DIR",
        help="extracted archives and downloads, shared with other runtimes; none removes anything"
        " in it (default: FLAMBEAU_CACHE, else the state directory, shared with nobody)",
    )
    parser.add_argument(
        "--boot-file",
        metavar="FILE",
        help="the committed document and the operator's public keys: a ModelDeployment owns this"
        " runtime",
    )
    parser.add_argument("--owner-uid", metavar="UID", help="that ModelDeployment's uid")
    parser.add_argument(
        "--drain-delay",
        type=float,
        metavar="S",
        help="after SIGTERM, be not ready but keep accepting for so many seconds",
    )
    parser.add_argument(
        "--drain-timeout",
        type=float,
        metavar="S",
        help="after that, let what was asked be answered for so many seconds (default 60)",
    )
    parser.add_argument(
        "--swap-delay",
        type=float,
        metavar="S",
        help="where a version has to go before the next one comes, be not ready but answer on for"
        " so many seconds first (default: the drain delay, at least 5)",
    )
    parser.add_argument(
        "--disable-token-auth", action="store_true", help="let every caller manage models"
    )
    parser.add_argument(
        "--log-level",
        default="info",
        choices=("debug", "info", "warning", "error"),
        help="the lowest level that is logged (default info)",
    )


def read_settings(arguments: argparse.Namespace, environ: Mapping[str, str]) -> Settings:
    """Return the settings: flags go before the file, the file before the defaults.

    Raises:
        InvalidSettings: a flag, key or variable has an impossible value.
    """
    path = Path(arguments.ts_config) if arguments.ts_config else None
    devices = count_devices(environ)
    settings = config_properties.apply(Settings(), path, environ, devices)
    settings = _with_flags(settings, arguments)
    settings = cache.apply(settings, arguments.cache, environ)
    settings = memory_limit.apply(settings, environ)
    if settings.model_store is not None and not settings.model_store.is_dir():
        raise InvalidSettings(
            f"--model-store {settings.model_store}: there is no such directory; create it, or name"
            " the one that holds your archives"
        )
    return settings


def _with_flags(settings: Settings, arguments: argparse.Namespace) -> Settings:
    changes: dict[str, object] = {}
    for role in ("inference", "management", "metrics", "grpc_inference", "grpc_management"):
        given = getattr(arguments, f"{role}_address")
        if given is not None:
            changes[role] = _address(f"--{role.replace('_', '-')}-address", given)
    if arguments.model_store:
        changes["model_store"] = Path(arguments.model_store).resolve()
    if arguments.models:
        changes["load_models"] = property_values.load_models(",".join(arguments.models))
    if arguments.state_dir:
        changes["state_dir"] = Path(arguments.state_dir).resolve()
    limits = {
        "drain_delay_s": arguments.drain_delay,
        "drain_timeout_s": arguments.drain_timeout,
        "swap_delay_s": _swap_delay_s(settings, arguments),
    }
    if given_limits := {name: value for name, value in limits.items() if value is not None}:
        changes["limits"] = replace(settings.limits, **given_limits)
    if arguments.disable_token_auth:
        changes["authorisation"] = Authorisation.OFF
    changes["managed"] = _managed(arguments)
    return replace(settings, **changes)  # type: ignore[arg-type]  # every key is a field's name


def _swap_delay_s(settings: Settings, arguments: argparse.Namespace) -> float:
    """Return what was said, else at least as long as Services have at the end of a pod."""
    if arguments.swap_delay is not None:
        return float(arguments.swap_delay)
    return max(settings.limits.swap_delay_s, arguments.drain_delay or 0.0)


def _address(flag: str, value: str) -> Address:
    try:
        return property_values.address(value)
    except property_values.Impossible:
        raise InvalidSettings(
            f"{flag} {value} cannot be: write HOST:PORT, for example 127.0.0.1:8080"
        ) from None


def _managed(arguments: argparse.Namespace) -> Managed | None:
    if arguments.boot_file is None and arguments.owner_uid is None:
        return None
    if arguments.boot_file is None or arguments.owner_uid is None or not arguments.state_dir:
        raise InvalidSettings(
            "--boot-file, --owner-uid and --state-dir go together: the file that a ModelDeployment"
            " boots this runtime from, its uid, and where the last accepted document is kept"
        )
    # Not resolved: a mounted ConfigMap changes by a link on the way to the file.
    return Managed(Path(arguments.boot_file).absolute(), arguments.owner_uid)


def main(argv: Sequence[str] | None = None) -> int:
    """Serve until told to stop; return the exit status."""
    arguments = make_parser().parse_args(argv)
    try:
        settings = read_settings(arguments, os.environ)
        serve.run(settings, arguments.log_level.upper())
    except (InvalidSettings, property_values.Impossible) as refused:
        sys.stderr.write(f"flambeau-runtime: {refused}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
