"""The variables a worker is born with, beyond those of the front."""

from __future__ import annotations

from collections.abc import Mapping

from flambeau_runtime.serving.modes import USUAL_HEADERS, SequenceHeaders

THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
)

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
    return {**base, **additions(base, {}, threads, None), **own}


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
    base: Mapping[str, str], env: Mapping[str, str], threads: int, visible: str | None
) -> dict[str, str]:
    """Return what is set for a worker on top of `base`; what the user has set already stays.

    Args:
        base: the front's own environment.
        env: the version's own variables; they win over everything.
        threads: how many each numeric library may start.
        visible: CUDA_VISIBLE_DEVICES, or None to leave it.
    """
    ours = {**dict.fromkeys(THREAD_VARIABLES, str(threads)), **PROCESS_WIDE}
    added = {name: value for name, value in ours.items() if name not in base}
    if visible is not None:
        added["CUDA_VISIBLE_DEVICES"] = visible
    return {**added, **env}
