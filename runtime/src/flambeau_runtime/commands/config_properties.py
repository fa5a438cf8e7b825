"""TorchServe's `config.properties` → Settings: every key known, none silently ignored.

A key is honoured, accepted (it tunes Java, so it means nothing here), or known and without effect,
which is said in a warning with the reason. An unknown key is a warning that names the nearest known
one. A value that cannot be is an error.
"""

from __future__ import annotations

import dataclasses
import difflib
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from flambeau_runtime.commands import metrics_file, properties_file, property_values as values
from flambeau_runtime.errors import InvalidSettings
from flambeau_runtime.settings import Address, Authorisation, Limits, ModelApi, Settings

NO_FLAGS: Mapping[str, tuple[str, str]] = MappingProxyType({})

Draft = dict[str, Any]
"""Fields of Settings by name; those of its parts begin with "limits.", "tls.", "grpc_…."."""

INFERENCE, MANAGEMENT = Address(port=7070), Address(port=7071)
"""Where TorchServe's gRPC ports are."""


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_HONOURED: Mapping[str, tuple[str, Callable[[str], object]]] = {
    "inference_address": ("inference", values.address),
    "management_address": ("management", values.address),
    "metrics_address": ("metrics", values.address),
    "grpc_inference_address": ("grpc_inference.host", values.host),
    "grpc_inference_port": ("grpc_inference.port", values.port),
    "grpc_inference_max_connection_age_ms": ("grpc_inference_age.max_s", values.lifetime),
    "grpc_inference_max_connection_age_grace_ms": ("grpc_inference_age.grace_s", values.lifetime),
    "grpc_management_address": ("grpc_management.host", values.host),
    "grpc_management_port": ("grpc_management.port", values.port),
    "grpc_management_max_connection_age_ms": ("grpc_management_age.max_s", values.lifetime),
    "grpc_management_max_connection_age_grace_ms": ("grpc_management_age.grace_s", values.lifetime),
    "enable_grpc_ssl": ("grpc_tls", values.switch),
    "private_key_file": ("tls.private_key", Path),
    "certificate_file": ("tls.certificate", Path),
    "model_store": ("model_store", Path),
    "load_models": ("load_models", values.load_models),
    "models": ("model_defaults", values.model_defaults),
    "model_snapshot": ("snapshot", values.model_snapshot),
    "default_workers_per_model": ("workers_per_model", values.or_none),
    "install_py_dep_per_model": ("install_requirements", values.switch),
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
    "ts_header_key_sequence_id": ("sequence_id_header", values.header_name),
    "ts_header_key_sequence_start": ("sequence_start_header", values.header_name),
    "ts_header_key_sequence_end": ("sequence_end_header", values.header_name),
    "keystore": ("tls.keystore", Path),
    "keystore_pass": ("tls.keystore_password", str),
    "keystore_type": ("tls.keystore_type", values.keystore_type),
    "cors_allowed_origin": ("cors.access-control-allow-origin", str),
    "cors_allowed_methods": ("cors.access-control-allow-methods", str),
    "cors_allowed_headers": ("cors.access-control-allow-headers", str),
    "ipex_enable": ("ipex", values.switch),
    "ipex_gpu_enable": ("ipex_gpu", values.switch),
}

CORS_HEADERS = tuple(
    field.removeprefix("cors.") for field, _ in _HONOURED.values() if field.startswith("cors.")
)
"""In the order in which they are sent."""

_ACCEPTED = _words("""
    async_logging debug enable_envvars_config initial_distribution_port io_ratio model_server_home
    netty_client_threads number_of_netty_threads prefer_direct_buffer tsConfigFile
    ts_open_inference_protocol use_env_allowed_urls use_native_io version vmargs
""")
"""They tune TorchServe's own machinery; there is nothing here for them to tune."""

_WITHOUT_EFFECT = {
    "cpp_log_config": "there is no backend in C++",
    "cpu_launcher_args": "every worker gets its share of the CPUs",
    "cpu_launcher_enable": "every worker gets its share of the CPUs",
    "plugins_path": "plug-ins in Java cannot be loaded",
    "python": "workers run under the Python that this runtime is installed in",
    "workflow_store": "there are no workflows",
}
"""What cannot be done here, and why: a warning where it is asked for."""

_HARMLESS = {
    "cpu_launcher_args": "",
    "cpu_launcher_enable": "false",
}
"""What keys without effect may say without a warning: it is what happens anyway."""

KNOWN = frozenset(_HONOURED) | _ACCEPTED | frozenset(_WITHOUT_EFFECT)

_VARIABLES = {"token_expiration_min": "TS_TOKEN_EXPIRATION_TIME_MIN"}
"""Variables of the environment that are not called TS_ and the key."""

Said = dict[str, tuple[str, str]]
"""Key → (where it is said, for errors; its value)."""


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
                f"Invalid Environment Variable {name}: {path}:{entry.line}:"
                f" {entry.key}={entry.value} names it and it is not set; set it, or write the value"
                " itself"
            )
        return environ[name]

    return dataclasses.replace(entry, value=_VARIABLE.sub(value_of, entry.value))


def apply(
    settings: Settings,
    path: Path | None,
    environ: Mapping[str, str],
    devices: int = 0,
    flags: Mapping[str, tuple[str, str]] = NO_FLAGS,
) -> Settings:
    """Return `settings` changed by the file, by flags, and by TS_<KEY> where the file allows them.

    Args:
        settings: what holds for keys that nobody sets.
        path: a config.properties, or None for none.
        environ: the process's environment; as in TorchServe it goes before the command line.
        devices: how many accelerators this machine has.
        flags: key → (the flag, its value): what the command line says.

    Raises:
        InvalidSettings: the file cannot be read, or a value cannot be; key, value and fix are
        named.
    """
    entries = read(path, environ) if path else ()
    said: Said = {entry.key: (f"{path}:{entry.line}: ", entry.value) for entry in entries}
    by_environment = _from_environment(said, environ)
    said |= {key: (f"{flag}: ", value) for key, (flag, value) in flags.items()} | by_environment
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


def _from_environment(said: Said, environ: Mapping[str, str]) -> Said:
    if not _is_true(said, "enable_envvars_config"):
        return {}
    return {
        key: (f"{variable}: ", environ[variable])
        for key in sorted(KNOWN)
        if (variable := _VARIABLES.get(key, f"TS_{key.upper().removeprefix('TS_')}")) in environ
        and (key != "allowed_urls" or _is_true(said, "use_env_allowed_urls"))
    }


def _is_true(said: Said, key: str) -> bool:
    return key in said and said[key][1].lower() == "true"


def _parsed(where: str, key: str, value: str, parse: Callable[[str], object]) -> object:
    try:
        return parse(value)
    except values.Impossible as impossible:
        raise InvalidSettings(f"{where}{key}={value} cannot be: {impossible}") from None


def _warning(key: str, value: str) -> str | None:
    if key in _ACCEPTED or _HARMLESS.get(key) == value.lower():
        return None
    if key in _WITHOUT_EFFECT:
        return f"{key} has no effect: {_WITHOUT_EFFECT[key]}"
    nearest = difflib.get_close_matches(key, sorted(KNOWN), n=1, cutoff=0.5)
    hint = f"; did you mean {nearest[0]}?" if nearest else ""
    return f"unknown key {key!r} has no effect{hint}"


def _filled(settings: Settings, draft: Draft, devices: int, warnings: tuple[str, ...]) -> Settings:
    limits, tls, cors = (_part_of(draft, part) for part in ("limits.", "tls.", "cors."))
    fields = {field: value for field, value in draft.items() if "." not in field}
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
        tls=dataclasses.replace(settings.tls, **tls),
        cors=tuple((header, cors[header]) for header in CORS_HEADERS if cors.get(header)),
        devices=settings.devices or tuple(range(min(devices, allowed))),
        warnings=settings.warnings + warnings,
        **_grpc(settings, draft),
        **fields,
    )


def _grpc(settings: Settings, draft: Draft) -> Draft:
    """Return the gRPC addresses: one that is named in part takes the rest from TorchServe's."""
    found: Draft = {}
    for role, usual in (("grpc_inference", INFERENCE), ("grpc_management", MANAGEMENT)):
        if said := _part_of(draft, f"{role}."):
            found[role] = dataclasses.replace(getattr(settings, role) or usual, **said)
        age = getattr(settings, f"{role}_age")
        found[f"{role}_age"] = dataclasses.replace(age, **_part_of(draft, f"{role}_age."))
    return found


def _part_of(draft: Draft, part: str) -> Draft:
    return {
        field.removeprefix(part): value for field, value in draft.items() if field.startswith(part)
    }
