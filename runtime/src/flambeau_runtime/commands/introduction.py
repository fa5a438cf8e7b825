"""What a server says about its configuration when it starts, in the order that TorchServe has."""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

from flambeau_runtime.api.listener import url_of_address
from flambeau_runtime.settings import ModelApi, Settings

NOTHING = "N/A"


def introduce(settings: Settings, config: Path | None, folder: Path) -> str:
    """Return the effective configuration, a `name: value` per line."""
    limits = settings.limits
    said: dict[str, object] = {
        "Torchserve version": "0.12.0",
        "Current directory": folder,
        "Temp directory": settings.temp_dir or tempfile.gettempdir(),
        "Number of GPUs": len(settings.devices),
        "Number of CPUs": os.cpu_count(),
        "Python executable": sys.executable,
        "Config file": config or NOTHING,
        "Inference address": url_of_address(settings.inference),
        "Management address": url_of_address(settings.management),
        "Metrics address": url_of_address(settings.metrics),
        "Model Store": settings.model_store,
        "Initial Models": _initial_models(settings),
        "Log dir": settings.log_dir,
        "Metrics dir": settings.metrics_dir or settings.log_dir,
        "Default workers per model": settings.workers_per_model or "one per device or CPU",
        "Blacklist Regex": settings.hidden_env or NOTHING,
        "Maximum Response Size": limits.max_response_bytes,
        "Maximum Request Size": limits.max_request_bytes,
        "Limit Maximum Image Pixels": _word(settings.limit_max_image_pixels),
        "Allowed Urls": f"[{', '.join(settings.allowed_urls)}]",
        "Enable metrics API": _word(settings.metrics_page),
        "Metrics mode": settings.metrics_mode.upper(),
        "Disable system metrics": _word(not settings.system_metrics),
        "System metrics command": settings.system_metrics_cmd or "default",
        "Model API enabled": _word(settings.model_api is not ModelApi.OFF),
    }
    return "".join(f"\n{name}: {value}" for name, value in said.items())


def _initial_models(settings: Settings) -> str:
    named = (f"{name}={file}" if name else file for name, file in settings.load_models)
    return ",".join(named) or NOTHING


def _word(truth: bool) -> str:
    return str(truth).lower()
