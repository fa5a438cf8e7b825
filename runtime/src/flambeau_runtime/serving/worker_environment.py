"""The variables a worker is born with, beyond those of the front."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

from flambeau_runtime.archive.package import Environment
from flambeau_runtime.serving.modes import USUAL_HEADERS, SequenceHeaders
from flambeau_runtime.settings import Settings

THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
)

CUDA, HIP = "CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES"
VISIBILITY = (HIP, "ZE_AFFINITY_MASK", CUDA)
"""Of AMD, Intel and NVIDIA; the first one that the front itself was given is the one to use."""
AMD, NVIDIA = Path("/dev/kfd"), Path("/proc/driver/nvidia")
OWN_PACKAGES = "FLAMBEAU_PACKAGES"
"""Not PYTHONPATH: Python itself must start before a model's packages can be in its way."""
NOTHING: Mapping[str, str] = MappingProxyType({})

PROCESS_WIDE: Mapping[str, str] = {
    # Threads that wait by spinning take the cores from other workers: 700 → 96 items/s measured.
    "OMP_WAIT_POLICY": "PASSIVE",
    # Temporaries of several MiB stay on the heap: 2.4 times as fast. glibc takes 32 MiB at most.
    "MALLOC_MMAP_THRESHOLD_": str(32 << 20),
    "MALLOC_TRIM_THRESHOLD_": str(256 << 20),
}
"""Read by libraries when a process starts: a forked worker has them from the template."""


def for_template(base: Mapping[str, str], threads: int) -> dict[str, str]:
    """Return the whole environment of the process that workers are forked from.

    OpenBLAS would start its threads when it is imported; workers set their number after the fork.
    """
    own = {} if "OPENBLAS_NUM_THREADS" in base else {"OPENBLAS_NUM_THREADS": "1"}
    return {**base, **additions(base, {}, threads), **own}


def for_sequences(base: Mapping[str, str], headers: SequenceHeaders) -> dict[str, str]:
    """Return by which a handler's context knows the headers of sequences, where they are others."""
    if headers == USUAL_HEADERS:
        return {}
    names = {
        "TS_REQUEST_SEQUENCE_ID": headers.id,
        "TS_REQUEST_SEQUENCE_START": headers.start,
        "TS_REQUEST_SEQUENCE_END": headers.end,
    }
    return {variable: name for variable, name in names.items() if variable not in base}


def thread_count(base: Mapping[str, str], share: int) -> int:
    """Return a worker's threads: what the user said for the whole runtime, else its share."""
    said = base.get("OMP_NUM_THREADS", "")
    return int(said) if said.isdecimal() and int(said) else share


def additions(
    base: Mapping[str, str],
    env: Mapping[str, str],
    threads: int,
    also: Mapping[str, str] = NOTHING,
) -> dict[str, str]:
    """Return what is set for a worker on top of `base`; what the user has set already stays.

    Args:
        base: the front's own environment.
        env: the version's own variables; they win over everything.
        threads: how many each numeric library may start.
        also: the variables that say which devices it sees, and which packages.
    """
    ours = {**dict.fromkeys(THREAD_VARIABLES, str(threads)), **PROCESS_WIDE}
    added = {name: value for name, value in ours.items() if name not in base}
    return {**added, **also, **env}


def told(settings: Settings) -> dict[str, str]:
    """Return what TorchServe tells every worker about the configuration."""
    said = {
        "TS_DECODE_INPUT_REQUEST": settings.decode_input_request,
        "TS_IPEX_ENABLE": settings.ipex,
        "TS_IPEX_GPU_ENABLE": settings.ipex_gpu,
    }
    return {name: str(value).lower() for name, value in said.items()}


def visibility(base: Mapping[str, str], devices: Sequence[int]) -> dict[str, str]:
    """Return what shows a process these devices only, by their names in the front's own list.

    The front counts the devices that it sees: where it was given "5,7" or "GPU-8f2a…", its device 1
    is the second of those.
    """
    variable = _visibility_variable(base)
    listed = [entry.strip() for entry in base.get(variable, "").split(",") if entry.strip()]
    names = [listed[it] if it < len(listed) else str(it) for it in devices]
    return {variable: ",".join(names)}


def may_fork_beside(base: Mapping[str, str], devices: Sequence[int]) -> bool:
    """Tell whether workers may be forked where these devices are: proven for NVIDIA's only.

    CUDA reads which devices it may see when it is first used, in the worker: docs/gpus.md.
    """
    return not devices or _visibility_variable(base) == CUDA


def packages(environment: Environment | None) -> dict[str, str]:
    """Return what puts a model's own packages on a worker's import path."""
    if environment is None or environment.packages is None:
        return {}
    return {OWN_PACKAGES: str(environment.packages)}


def _visibility_variable(base: Mapping[str, str]) -> str:
    return next((name for name in VISIBILITY if name in base), _by_vendor())


def _by_vendor(amd: Path = AMD, nvidia: Path = NVIDIA) -> str:
    return HIP if amd.exists() and not nvidia.exists() else CUDA
