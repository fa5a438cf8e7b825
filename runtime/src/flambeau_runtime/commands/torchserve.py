"""`torchserve`: TorchServe's command line for this runtime."""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from importlib import metadata
from pathlib import Path

from flambeau_runtime import serve
from flambeau_runtime.commands import config_properties, property_values, server_process
from flambeau_runtime.commands.devices import count_devices
from flambeau_runtime.errors import InvalidSettings
from flambeau_runtime.settings import Authorisation, ModelApi, Settings

STOP_TIMEOUT_S = 150.0
CONFIG_FILE = "config.properties"
KEY_FILE = "key_file.json"

EXAMPLES = """\
examples:
  torchserve --start --model-store model_store --models classifier=classifier.mar
  torchserve --start --model-store model_store --models ALL --ts-config config.properties
  torchserve --stop
"""


def make_parser() -> argparse.ArgumentParser:
    """Return TorchServe's command line."""
    parser = argparse.ArgumentParser(
        prog="torchserve",
        description="Serve PyTorch models. This is flambeau-runtime, a drop-in replacement.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("-v", "--version", action="version", version=_version())
    action = parser.add_mutually_exclusive_group(required=True)
    action.add_argument("--start", action="store_true", help="start the server")
    action.add_argument("--stop", action="store_true", help="stop it, and wait until it is gone")
    parser.add_argument("--ts-config", metavar="FILE", help="a config.properties")
    parser.add_argument("--model-store", metavar="DIR", help="directory of archives")
    parser.add_argument(
        "--models",
        nargs="+",
        metavar="[NAME=]FILE",
        help="archives to serve from the start, or ALL of the model store",
    )
    parser.add_argument(
        "--foreground", action="store_true", help="serve in this process, lines on the console"
    )
    parser.add_argument(
        "--disable-token-auth", "--dt", action="store_true", help="let every caller in"
    )
    parser.add_argument(
        "--enable-model-api", action="store_true", help="allow registering and unregistering"
    )
    parser.add_argument(
        "--no-config-snapshots", "--ncs", action="store_true", help="accepted: there are none here"
    )
    parser.add_argument("--log-config", metavar="FILE", help="accepted, without effect")
    parser.add_argument("--workflow-store", metavar="DIR", help="accepted, without effect")
    parser.add_argument("--cpp-log-config", metavar="FILE", help="accepted, without effect")
    parser.add_argument(
        "--plugins-path", "--ppath", metavar="PATHS", help="accepted, without effect"
    )
    return parser


def _version() -> str:
    return (
        f"flambeau-runtime {metadata.version('flambeau-runtime')}"
        ", in place of TorchServe Version 0.12.0"
    )


def read_settings(
    arguments: argparse.Namespace, environ: Mapping[str, str], folder: Path
) -> Settings:
    """Return the settings: flags go before the file, the file before the defaults.

    Args:
        arguments: what `make_parser` made of the command line.
        environ: the environment; TS_CONFIG_FILE goes before --ts-config, as in TorchServe.
        folder: the working directory; logs and keys are kept there.

    Raises:
        InvalidSettings: something is missing or impossible.
    """
    base = Settings(
        log_dir=folder / environ.get("LOG_LOCATION", "logs"),
        metrics_dir=folder / environ.get("METRICS_LOCATION", "logs"),
        key_file=folder / KEY_FILE,
    )
    config = _config_file(arguments, environ, folder)
    settings = config_properties.apply(base, config, environ, count_devices(environ))
    changes: dict[str, object] = {"model_store": _model_store(arguments, settings, folder)}
    if arguments.models:
        changes["load_models"] = property_values.load_models(",".join(arguments.models))
    if arguments.disable_token_auth:
        changes["authorisation"] = Authorisation.OFF
    if arguments.enable_model_api:
        changes["model_api"] = ModelApi.ON
    changes["warnings"] = settings.warnings + _flags_without_effect(arguments)
    return replace(settings, **changes)  # type: ignore[arg-type]  # every key is a field's name


def _config_file(
    arguments: argparse.Namespace, environ: Mapping[str, str], folder: Path
) -> Path | None:
    for source, named in (
        ("TS_CONFIG_FILE", environ.get("TS_CONFIG_FILE")),
        ("--ts-config", arguments.ts_config),
    ):
        if named:
            path = folder / named
            if not path.is_file():
                raise InvalidSettings(f"{source}: config file not found: {named}")
            return path
    in_folder = folder / CONFIG_FILE
    return in_folder if in_folder.is_file() else None


def _model_store(arguments: argparse.Namespace, settings: Settings, folder: Path) -> Path:
    named = arguments.model_store or settings.model_store
    if named is None:
        raise InvalidSettings(
            "no model store: name the directory of your archives with --model-store, or with"
            " model_store in config.properties"
        )
    path = folder / named
    if not path.is_dir():
        raise InvalidSettings(f"--model-store: directory not found: {named}")
    return path.resolve()


def _flags_without_effect(arguments: argparse.Namespace) -> tuple[str, ...]:
    given = {
        "--workflow-store": arguments.workflow_store,
        "--log-config": arguments.log_config,
        "--cpp-log-config": arguments.cpp_log_config,
        "--plugins-path": arguments.plugins_path,
    }
    return tuple(f"{flag} has no effect" for flag, value in given.items() if value)


def _pid_file(environ: Mapping[str, str]) -> Path:
    return Path(environ.get("TEMP") or tempfile.gettempdir()) / server_process.PID_FILE


def _start(arguments: argparse.Namespace, environ: Mapping[str, str]) -> None:
    settings = read_settings(arguments, environ, Path.cwd())
    for warning in settings.warnings:
        sys.stderr.write(f"torchserve: warning: {warning}\n")
    with server_process.holding_pid_file(_pid_file(environ)) as write_pid:
        if arguments.foreground:
            write_pid()
            serve.run(settings)
            return
        _start_in_background(settings, write_pid)


def _start_in_background(settings: Settings, write_pid: Callable[[], None]) -> None:
    def run(started: Callable[[], None]) -> None:
        write_pid()
        serve.run(settings, on_started=lambda _: started())

    pid, why_not = server_process.start_in_background(run)
    if why_not:
        raise InvalidSettings(why_not)
    sys.stdout.write(
        f"TorchServe is running: process {pid}, inference on port {settings.inference.port},"
        f" logs in {settings.log_dir}\n"
    )


def _stop(environ: Mapping[str, str]) -> None:
    if server_process.stop(_pid_file(environ), STOP_TIMEOUT_S):
        sys.stdout.write("TorchServe has stopped.\n")
    else:
        sys.stdout.write("TorchServe is not currently running.\n")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; return its exit status."""
    arguments = make_parser().parse_args(argv)
    try:
        if arguments.stop:
            _stop(os.environ)
        else:
            _start(arguments, os.environ)
    except (InvalidSettings, property_values.Impossible) as refused:
        sys.stderr.write(f"torchserve: {refused}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
