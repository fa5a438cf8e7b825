"""TorchServe's `config.properties` → Settings: every key known, none silently ignored.

A key is honoured, accepted (it tunes Java, so it means nothing here), or known and not supported
yet, which is said in a warning. An unknown key is a warning that names the nearest known one. A
value that cannot be is an error.
"""

from __future__ import annotations

import dataclasses
import difflib
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from flambeau_runtime.commands import metrics_file, properties_file, property_values as values
from flambeau_runtime.errors import InvalidSettings
from flambeau_runtime.settings import Authorisation, Limits, ModelApi, Settings

Draft = dict[str, Any]
"""Fields of Settings by name; those of Limits begin with "limits."."""


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_HONOURED: Mapping[str, tuple[str, Callable[[str], object]]] = {
    "inference_address": ("inference", values.address),
    "management_address": ("management", values.address),
    "metrics_address": ("metrics", values.address),
    "model_store": ("model_store", Path),
    "load_models": ("load_models", values.load_models),
    "models": ("model_defaults", values.model_defaults),
    "default_workers_per_model": ("workers_per_model", values.or_none),
    "default_service_handler": ("default_handler", str),
    "job_queue_size": ("limits.job_queue_size", values.positive),
    "default_response_timeout": ("limits.response_timeout_s", values.positive),
    "default_startup_timeout": ("limits.startup_timeout_s", values.positive),
    "unregister_model_timeout": ("limits.unregister_timeout_s", values.positive),
    "max_request_size": ("limits.max_request_bytes", values.positive),
    "max_response_size": ("limits.max_response_bytes", values.positive),
    "batch_size": ("limits.batch_size", values.positive),
    "max_batch_delay": ("limits.max_batch_delay_s", values.milliseconds),
    "enable_batch": ("enable_batch", values.switch),
    "number_of_gpu": ("number_of_gpu", values.natural),
    "device_visibility": ("device_visibility", values.visibility),
    "allowed_urls": ("allowed_urls", values.patterns),
    "enable_model_api": ("model_api", values.switch),
    "disable_token_authorization": ("authorisation", values.switch),
    "token_expiration_min": ("token_expiration_min", values.positive),
    "enable_metrics_api": ("metrics_page", values.switch),
    "metrics_mode": ("metrics_mode", values.metrics_mode),
    "metrics_config": ("metrics_file", metrics_file.read_named),
    "model_metrics_auto_detect": ("metrics_auto_detect", values.switch),
    "metric_time_interval": ("metrics_interval_s", values.positive),
    "system_metrics_cmd": ("system_metrics_cmd", str),
    "disable_system_metrics": ("system_metrics", values.opposite),
    "decode_input_request": ("decode_input_request", values.switch),
    "limit_max_image_pixels": ("limit_max_image_pixels", values.switch),
    "service_envelope": ("envelope", values.envelope),
    "blacklist_env_vars": ("hidden_env", values.pattern),
    "initial_worker_port": ("first_worker_id", values.natural),
}

_ACCEPTED = _words("""
    async_logging cpp_log_config debug enable_envvars_config io_ratio
    model_server_home netty_client_threads number_of_netty_threads prefer_direct_buffer python
    use_env_allowed_urls use_native_io version vmargs
""")
"""They tune TorchServe's own machinery; there is nothing here for them to tune."""

_NOT_YET = _words("""
    cors_allowed_headers cors_allowed_methods cors_allowed_origin cpu_launcher_args
    cpu_launcher_enable enable_grpc_ssl grpc_inference_address
    grpc_inference_max_connection_age_grace_ms grpc_inference_max_connection_age_ms
    grpc_inference_port grpc_management_address grpc_management_max_connection_age_grace_ms
    grpc_management_max_connection_age_ms grpc_management_port initial_distribution_port
    install_py_dep_per_model ipex_enable ipex_gpu_enable keystore keystore_pass keystore_type
    model_snapshot plugins_path
    private_key_file certificate_file ts_header_key_sequence_end
    ts_header_key_sequence_id ts_header_key_sequence_start ts_open_inference_protocol
    workflow_store
""")
_HARMLESS = {
    "cpu_launcher_enable": "false",
    "enable_grpc_ssl": "false",
    "install_py_dep_per_model": "false",
    "ipex_enable": "false",
    "ipex_gpu_enable": "false",
    "ts_open_inference_protocol": "false",
}
"""What the keys that are not supported yet may say without a warning: it is what happens anyway."""

KNOWN = frozenset(_HONOURED) | _ACCEPTED | _NOT_YET


def read(path: Path, environ: Mapping[str, str]) -> tuple[properties_file.Entry, ...]:
    """Return the entries of a file, `$$NAME$$` replaced by the variable of that name.

    Raises:
        InvalidSettings: the file cannot be read, or a variable is not set.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise InvalidSettings(f"{path}: cannot be read: {reason}") from None
    return tuple(_filled_in(path, entry, environ) for entry in properties_file.parse(text))


_VARIABLE = re.compile(r"\$\$(\w+)\$\$")


def _filled_in(
    path: Path, entry: properties_file.Entry, environ: Mapping[str, str]
) -> properties_file.Entry:
    def value_of(match: re.Match[str]) -> str:
        name = match.group(1)
        if name not in environ:
            raise InvalidSettings(
                f"{path}:{entry.line}: {entry.key}={entry.value}: the environment variable {name}"
                " is not set; set it, or write the value itself"
            )
        return environ[name]

    return dataclasses.replace(entry, value=_VARIABLE.sub(value_of, entry.value))


def apply(
    settings: Settings, path: Path | None, environ: Mapping[str, str], devices: int = 0
) -> Settings:
    """Return `settings` changed by the file, and by TS_<KEY> variables where the file allows them.

    Args:
        settings: what holds for keys that nobody sets.
        path: a config.properties, or None for none.
        environ: the process's environment.
        devices: how many accelerators this machine has.

    Raises:
        InvalidSettings: the file cannot be read, or a value cannot be; key, value and fix are
        named.
    """
    entries = read(path, environ) if path else ()
    said = {entry.key: (f"{path}:{entry.line}: ", entry.value) for entry in entries}
    if said.get("enable_envvars_config", ("", ""))[1].lower() == "true":
        said |= _from_environment(environ)
    draft: Draft = {}
    warnings = []
    for key, (where, value) in said.items():
        if key in _HONOURED:
            field, parse = _HONOURED[key]
            draft[field] = _parsed(where, key, value, parse)
            if key == "metrics_mode" and draft[field] != value.lower():
                warnings.append(f"{where}metrics_mode={value} is unknown, log is taken instead")
        elif warning := _warning(key, value):
            warnings.append(where + warning)
    return _filled(settings, draft, devices, tuple(warnings))


def _from_environment(environ: Mapping[str, str]) -> dict[str, tuple[str, str]]:
    return {
        key: (f"TS_{key.upper()}: ", environ[f"TS_{key.upper()}"])
        for key in sorted(KNOWN)
        if f"TS_{key.upper()}" in environ
    }


def _parsed(where: str, key: str, value: str, parse: Callable[[str], object]) -> object:
    try:
        return parse(value)
    except values.Impossible as impossible:
        raise InvalidSettings(f"{where}{key}={value} cannot be: {impossible}") from None


def _warning(key: str, value: str) -> str | None:
    if key in _ACCEPTED or _HARMLESS.get(key) == value.lower():
        return None
    if key in _NOT_YET:
        return f"{key} is known, but not supported yet: it has no effect"
    nearest = difflib.get_close_matches(key, sorted(KNOWN), n=1, cutoff=0.5)
    hint = f"; did you mean {nearest[0]}?" if nearest else ""
    return f"unknown key {key!r} has no effect{hint}"


def _filled(settings: Settings, draft: Draft, devices: int, warnings: tuple[str, ...]) -> Settings:
    limits: Draft = {
        field.removeprefix("limits."): value
        for field, value in draft.items()
        if field.startswith("limits.")
    }
    fields = {field: value for field, value in draft.items() if not field.startswith("limits.")}
    if not fields.pop("enable_batch", True):
        limits["batch_size"] = Limits().batch_size
    allowed = fields.pop("number_of_gpu", devices)
    if "authorisation" in fields:
        fields["authorisation"] = (
            Authorisation.OFF if fields["authorisation"] else Authorisation.STRICT
        )
    if "model_api" in fields:
        fields["model_api"] = ModelApi.ON if fields["model_api"] else ModelApi.OFF
    return dataclasses.replace(
        settings,
        limits=dataclasses.replace(settings.limits, **limits),
        devices=settings.devices or tuple(range(min(devices, allowed))),
        warnings=settings.warnings + warnings,
        **fields,
    )
