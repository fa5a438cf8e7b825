"""Section 11: GPUs. Read in the source of TorchServe only."""

from tests.compat.inventory.row import DIFFERENT, MUST, RARE, SAME, SHOULD, Row, S, Section, V

SECTION = Section(
    "11",
    "GPUs",
    (
        Row("11-count", "accelerators found, capped by number_of_gpu", MUST, S, SAME),
        Row("11-round-robin", "gpu_id: a server-wide counter modulo the count", MUST, S, SAME),
        Row(
            "11-round-robin-start",
            "that counter starts at 1 modulo the count",
            RARE,
            S,
            DIFFERENT,
            why=(
                "the device with the fewest workers, the lowest index of those: device 0 for the "
                "first"
            ),
        ),
        Row("11-device-ids", "deviceIds or a parallel level: a counter per model", SHOULD, S, SAME),
        Row(
            "11-visible",
            "gpu_id is an index among visible devices",
            MUST,
            S,
            DIFFERENT,
            why=(
                "a worker sees its own device only, as index 0, so that handlers which say cuda "
                "are spread, too; device_visibility=all gives all of them and the index among all"
            ),
        ),
        Row("11-visible-all", "device_visibility=all: gpu_id is an index among all", MUST, V, SAME),
        Row("11-visible-parallel", "CUDA_VISIBLE_DEVICES only for parallel models", MUST, S, SAME),
        Row("11-parallel-too-many", "a parallel level above the GPUs is refused", SHOULD, S, SAME),
        Row("11-default-workers", "start-up workers: the number of GPUs", MUST, S, SAME),
        Row(
            "11-vendors",
            "HIP, ZE, XPU variables; Apple counts as 1",
            RARE,
            S,
            DIFFERENT,
            why=(
                "each worker sees its own device through the variable of AMD or Intel; Apple "
                "devices are not counted"
            ),
        ),
        Row("11-describe", "describe: gpu true and gpuUsage", SHOULD, S, SAME),
        Row("11-memory", "ending the process frees its GPU memory", MUST, S, SAME),
    ),
)
