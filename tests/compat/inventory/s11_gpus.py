"""Section 11: GPUs. Read in the source of TorchServe only."""

from tests.compat.inventory.row import MUST, RARE, SHOULD, Row, S, Section

SECTION = Section(
    "11",
    "GPUs",
    (
        Row("11-count", "accelerators found, capped by number_of_gpu", MUST, S),
        Row("11-round-robin", "gpu_id: a server-wide counter modulo the count", MUST, S),
        Row("11-round-robin-start", "that counter starts at 1 modulo the count", RARE, S),
        Row("11-device-ids", "deviceIds or a parallel level: a counter per model", SHOULD, S),
        Row("11-visible", "gpu_id is an index among visible devices", MUST, S),
        Row("11-visible-parallel", "CUDA_VISIBLE_DEVICES only for parallel models", MUST, S),
        Row("11-parallel-too-many", "a parallel level above the GPUs is refused", SHOULD, S),
        Row("11-default-workers", "start-up workers: the number of GPUs", MUST, S),
        Row("11-vendors", "HIP, ZE, XPU variables; Apple counts as 1", RARE, S),
        Row("11-describe", "describe: gpu true and gpuUsage", SHOULD, S),
        Row("11-memory", "ending the process frees its GPU memory", MUST, S),
    ),
)
