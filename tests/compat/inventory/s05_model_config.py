"""Section 5: model-config.yaml."""

from tests.compat.inventory.row import (
    DIFFERENT,
    MISSING,
    MUST,
    RARE,
    SAME,
    SHOULD,
    Row,
    S,
    Section,
    V,
)

SECTION = Section(
    "5",
    "model-config.yaml",
    (
        Row("5-whole", "the whole document is context.model_yaml_config", MUST, V, SAME),
        Row("5-wrong-type", "a wrongly typed value is ignored with a warning", SHOULD, V, SAME),
        Row(
            "5-broken",
            "a file that is no YAML mapping, or builds objects",
            SHOULD,
            V,
            DIFFERENT,
            why=(
                "400 InvalidModelException that names the line; TorchServe serves the model as if"
                " there were no file, or answers 500 with the name of a Java class"
            ),
        ),
        Row("5-priority-batch", "register parameters beat the file for batches", MUST, V, SAME),
        Row("5-priority-workers", "the file beats them for timeouts and workers", MUST, V, SAME),
        Row("5-priority-models", "the file beats models= in config.properties", MUST, V, SAME),
        Row("5-workers", "minWorkers, maxWorkers; ignored if max < min", MUST, V, SAME),
        Row("5-batch", "batchSize, maxBatchDelay", MUST, V, SAME),
        Row("5-timeouts", "responseTimeout, startupTimeout", MUST, V, SAME),
        Row("5-max-retry", "maxRetryTimeoutInSec", SHOULD, V, SAME),
        Row("5-job-queue-size", "jobQueueSize", SHOULD, V, SAME),
        Row("5-client-timeout-described", "clientTimeoutInMills is described", RARE, V, SAME),
        Row(
            "5-client-timeout",
            "clientTimeoutInMills",
            RARE,
            V,
            DIFFERENT,
            "the client is answered with 500 when its time is over; TorchServe never answers it",
        ),
        Row("5-job-ticket", "useJobTicket: only when a worker is idle, else 503", RARE, V, SAME),
        Row("5-device-type", "deviceType: cpu, gpu; gpu without GPU is cpu", MUST, V, SAME),
        Row("5-device-ids", "deviceIds; dropped as a whole if one is invalid", SHOULD, V, SAME),
        Row(
            "5-parallel",
            "parallelType, parallelLevel",
            SHOULD,
            S,
            MISSING,
            why="pp, tp and pptp are refused, see 5-parallel-refused; custom is served",
        ),
        Row("5-parallel-custom", "parallelType custom, parallelLevel 1", SHOULD, V, SAME),
        Row(
            "5-parallel-several",
            "parallelType custom, parallelLevel above 1",
            SHOULD,
            V,
            DIFFERENT,
            why=(
                "its workers start, each with devices of its own; TorchServe 0.12 waits for as "
                "many sockets as the level says, and gives up"
            ),
        ),
        Row(
            "5-parallel-refused",
            "parallelType pp, tp, pptp",
            SHOULD,
            S,
            DIFFERENT,
            why="400 InvalidModelException with what to do instead: torchrun is not there yet",
        ),
        Row(
            "5-torchrun",
            "torchrun: nnodes, nproc-per-node …",
            SHOULD,
            S,
            MISSING,
            why="models that need torchrun are refused, see 5-parallel-refused",
        ),
        Row("5-continuous-batching", "continuousBatching", SHOULD, V, SAME),
        Row(
            "5-continuous-one-call",
            "continuousBatching: a row that its first call finishes",
            SHOULD,
            V,
            DIFFERENT,
            "it is answered whole; TorchServe sends no head for it, so its client hangs",
        ),
        Row("5-sequences", "sequenceBatching and its limits", RARE, V, SAME),
        Row("5-async", "asyncCommunication: async def handle", RARE, V, SAME),
        Row("5-use-venv", "useVenv: a virtual environment per model", SHOULD, S, SAME),
        Row("5-pt2", "pt2: compile and export", SHOULD, V, SAME),
        Row("5-handler", "handler: free; profile: true times the steps", MUST, V, SAME),
        Row("5-micro-batching", "micro_batching, read by its helper", RARE, S, SAME),
        Row("5-engines", "pippy, deepspeed, vllm_engine …: read by handlers", RARE, S, SAME),
    ),
)
