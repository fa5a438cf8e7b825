"""`torchserve`: TorchServe's command line for this runtime."""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from importlib import metadata
from pathlib import Path

from flambeau_runtime import serve
from flambeau_runtime.commands import (
    cache,
    config_properties,
    property_values,
    server_process,
)
from flambeau_runtime.commands.devices import count_devices
from flambeau_runtime.commands.introduction import introduce
from flambeau_runtime.errors import InvalidSettings
from flambeau_runtime.settings import ModelDefaults, Settings

STOP_TIMEOUT_S = 150.0
CONFIG_FILE = "config.properties"
CONFIG_VARIABLE = "TS_CONFIG_FILE"
KEY_FILE = "key_file.json"

EXAMPLES = """\
examples:
  torchserve --start --model-store model_store --models classifier=classifier.mar
  torchserve --start --model-store model_store --models ALL --ts-config config.properties
  torchserve --stop
"""


class NotFound(InvalidSettings):
    """TorchServe's own sentence about what is missing; it says it on stdout."""


def make_parser() -> argparse.ArgumentParser:
    """Return TorchServe's command line."""
    parser = argparse.ArgumentParser(
        prog="torchserve",
        description="Serve PyTorch models. This is flambeau-runtime, a drop-in replacement.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    action = parser.add_mutually_exclusive_group()
    action.add_argument("-v", "--version", action="store_true", help="say which version this is")
    action.add_argument(
        "--start", action="store_true", help="start the server; so it does without a word"
    )
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
        "--foreground", action="store_true", help="serve in this process instead of a new one"
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


def read_settings(
    arguments: argparse.Namespace, environ: Mapping[str, str], folder: Path
) -> Settings:
    """Return the settings: the environment goes before flags, flags before the file.

    Args:
        arguments: what `make_parser` made of the command line.
        environ: the environment; TS_CONFIG_FILE goes before --ts-config, as in TorchServe.
        folder: the working directory; logs and keys are kept there.

    Raises:
        InvalidSettings: something is missing or impossible.
    """
    log_config = _found(folder, "--log-config", arguments.log_config)
    temp = environ.get("TEMP")
    if temp and not (folder / temp).is_dir():
        raise NotFound(f"Invalid temp directory: {temp}, please check TEMP environment variable.")
    base = Settings(
        log_dir=folder / environ.get("LOG_LOCATION", "logs"),
        metrics_dir=folder / environ.get("METRICS_LOCATION", "logs"),
        key_file=folder / KEY_FILE,
        grpc_inference=config_properties.INFERENCE,
        grpc_management=config_properties.MANAGEMENT,
    )
    config = _config_file(arguments, environ, folder)
    flags = _flags(arguments)
    settings = config_properties.apply(base, config, environ, count_devices(environ), flags)
    store = _model_store(arguments, settings, folder)
    workflow_store = arguments.workflow_store
    if workflow_store and not (folder / workflow_store).is_dir():
        raise NotFound(f"--workflow-store directory not found: {workflow_store}")
    cpp_log_config = _found(folder, "--cpp-log-config", arguments.cpp_log_config)
    _check_snapshot(settings.snapshot or (), store)
    without_effect = {
        "--workflow-store": workflow_store,
        "--log-config": log_config,
        "--cpp-log-config": cpp_log_config,
        "--plugins-path": arguments.plugins_path,
    }
    warnings = tuple(f"{flag} has no effect" for flag, value in without_effect.items() if value)
    complete = replace(
        settings,
        model_store=store,
        temp_dir=folder / temp if temp else None,
        warnings=settings.warnings + warnings,
    )
    complete = cache.apply(complete, None, environ)
    return replace(complete, introduction=introduce(complete, config, folder))


def _found(folder: Path, flag: str, named: str | None) -> Path | None:
    if not named:
        return None
    path = (folder / named).resolve()
    if not path.is_file():
        raise NotFound(f"{flag} file not found: {path}")
    return path


def _config_file(
    arguments: argparse.Namespace, environ: Mapping[str, str], folder: Path
) -> Path | None:
    named: str | None = environ.get(CONFIG_VARIABLE, arguments.ts_config)
    if named:
        path = folder / named
        if not path.is_file():
            raise NotFound(f"--ts-config file not found: {named}")
        return path
    in_folder = folder / CONFIG_FILE
    return in_folder if in_folder.is_file() else None


def _flags(arguments: argparse.Namespace) -> dict[str, tuple[str, str]]:
    """Return what the command line says as keys of config.properties."""
    said = {
        "model_store": ("--model-store", arguments.model_store),
        "load_models": ("--models", ",".join(arguments.models or ())),
        "disable_token_authorization": ("--disable-token-auth", arguments.disable_token_auth),
        "enable_model_api": ("--enable-model-api", arguments.enable_model_api),
    }
    return {key: (flag, str(value)) for key, (flag, value) in said.items() if value}


def _model_store(arguments: argparse.Namespace, settings: Settings, folder: Path) -> Path:
    if settings.model_store is None:
        raise NotFound("Missing mandatory parameter --model-store")
    # The flag is checked even where the environment goes before it: TorchServe does.
    for named in (arguments.model_store, settings.model_store):
        if named and not (folder / named).is_dir():
            raise NotFound(f"--model-store directory not found: {named}")
    return (folder / settings.model_store).resolve()


def _check_snapshot(versions: Sequence[ModelDefaults], store: Path) -> None:
    """Refuse a snapshot whose archives are gone: half of it is not what was saved."""
    for version in versions:
        archive = version.archive or ""
        if "://" not in archive and not (store / archive).exists():
            raise InvalidSettings(
                f"model_snapshot: Model archive file for model :{version.model}, version"
                f" :{version.version} not found in model store: put {archive} into {store}"
            )


def _pid_file() -> Path:
    return Path(tempfile.gettempdir()) / server_process.PID_FILE


def _start(arguments: argparse.Namespace, environ: Mapping[str, str]) -> None:
    with server_process.holding_pid_file(_pid_file()) as write_pid:
        settings = read_settings(arguments, environ, Path.cwd())
        for warning in settings.warnings:
            sys.stderr.write(f"torchserve: warning: {warning}\n")
        sys.stderr.flush()
        if arguments.foreground:
            write_pid()
            serve.run(settings)
        else:
            server_process.start_in_background(partial(_serve_once_started, settings, write_pid))


def _serve_once_started(
    settings: Settings, write_pid: Callable[[], None], started: Callable[[], None]
) -> None:
    write_pid()
    serve.run(settings, on_started=lambda _: started())


def _stop(*, quietly: bool) -> None:
    if not server_process.stop(_pid_file(), STOP_TIMEOUT_S):
        sys.stdout.write("TorchServe is not currently running.\n")
    elif not quietly:
        sys.stdout.write("TorchServe has stopped.\n")


def _say_version() -> None:
    # Scripts read the one line on stdout; who this really is stands beside it.
    sys.stdout.write("TorchServe Version is 0.12.0\n")
    version = metadata.version("flambeau-runtime")
    sys.stderr.write(f"flambeau-runtime {version}, in place of TorchServe\n")


def _do(arguments: argparse.Namespace) -> None:
    if server_process.remove_orphan(_pid_file()):
        sys.stdout.write("Removing orphan pid file.\n")
        sys.stdout.flush()
    if arguments.version:
        _say_version()
    elif arguments.stop:
        _stop(quietly=arguments.foreground)
    else:
        _start(arguments, os.environ)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; return its exit status."""
    arguments = make_parser().parse_args(argv)
    try:
        _do(arguments)
    except (NotFound, server_process.AlreadyRunning) as refused:
        sys.stdout.write(f"{refused}\n")
        return 1
    except (InvalidSettings, property_values.Impossible) as refused:
        sys.stdout.write(f"Invalid configuration: {refused}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
