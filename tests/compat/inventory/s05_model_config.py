"""Section 5: model-config.yaml."""

from tests.compat.inventory.row import MUST, RARE, SAME, SHOULD, Row, S, Section, V

SECTION = Section(
    "5",
    "model-config.yaml",
    (
        Row("5-whole", "the whole document is context.model_yaml_config", MUST, V),
        Row("5-wrong-type", "a wrongly typed value is ignored with a warning", SHOULD, V),
        Row("5-priority-batch", "register parameters beat the file for batches", MUST, V),
        Row("5-priority-workers", "the file beats them for timeouts and workers", MUST, V),
        Row("5-priority-models", "the file beats models= in config.properties", MUST, V),
        Row("5-workers", "minWorkers, maxWorkers; ignored if max < min", MUST, V),
        Row("5-batch", "batchSize, maxBatchDelay", MUST, V),
        Row("5-timeouts", "responseTimeout, startupTimeout", MUST, V),
        Row("5-max-retry", "maxRetryTimeoutInSec", SHOULD, V),
        Row("5-job-queue-size", "jobQueueSize", SHOULD, V),
        Row("5-client-timeout", "clientTimeoutInMills", RARE, V),
        Row("5-job-ticket", "useJobTicket: only when a worker is idle, else 503", RARE, V),
        Row("5-device-type", "deviceType: cpu, gpu; gpu without GPU is cpu", MUST, V),
        Row("5-device-ids", "deviceIds; dropped as a whole if one is invalid", SHOULD, V),
        Row("5-parallel", "parallelType, parallelLevel", SHOULD, S),
        Row("5-torchrun", "torchrun: nnodes, nproc-per-node …", SHOULD, S),
        Row("5-continuous-batching", "continuousBatching", SHOULD, V),
        Row("5-sequences", "sequenceBatching and its limits", RARE, V),
        Row("5-async", "asyncCommunication: async def handle", RARE, V),
        Row("5-use-venv", "useVenv: a virtual environment per model", SHOULD, S),
        Row("5-pt2", "pt2: compile and export", SHOULD, V),
        Row("5-handler", "handler: free; profile: true times the steps", MUST, V),
        Row("5-micro-batching", "micro_batching, read by its helper", RARE, S, SAME),
        Row("5-engines", "pippy, deepspeed, vllm_engine …: read by handlers", RARE, S),
    ),
)
