"""Section 10: the life of workers."""

from tests.compat.inventory.row import MUST, SHOULD, Row, S, Section, V

SECTION = Section(
    "10",
    "Workers",
    (
        Row("10-process", "one process per worker, one batch at a time", MUST, V),
        Row("10-socket", "a unix socket in the temp directory, or TCP", MUST, V),
        Row("10-states", "states; the API shows READY or UNLOADING", SHOULD, V),
        Row("10-back-off", "restart back-off 1, 1, 2, 3, 5 … s, reset by a success", MUST, V),
        Row("10-give-up", "gives up maxRetryTimeoutInSec after the first failure", MUST, V),
        Row("10-given-up-same", "then the same worker count: 206, no change", MUST, V),
        Row("10-given-up-more", "a higher count adds workers that serve", MUST, V),
        Row("10-given-up-revive", "0 and back, or registering again, revives it", MUST, V),
        Row("10-startup-limit", "startupTimeout bounds loading", MUST, V),
        Row("10-startup-process-limit", "two minutes for the process to appear", MUST, S),
        Row("10-crash", "a crash: that batch 500, restart, the queue waits", MUST, V),
        Row("10-timeout", "a timeout: kill and restart", MUST, V),
        Row("10-scale-down", "newest first; a request in flight gets 500 or nothing", SHOULD, V),
        Row("10-unregister", "a request in flight is lost, often without an answer", SHOULD, V),
        Row("10-snapshots", "snapshots after every change unless --ncs", SHOULD, V),
        Row("10-shutdown", "SIGTERM: listeners close, workers end", MUST, V),
        Row("10-shutdown-snapshot", "SIGTERM writes a shutdown snapshot", SHOULD, V),
        Row("10-ping-loading", "/ping is Healthy before any model is loaded", MUST, V),
        Row("10-batch-joins", "further requests join a batch up to batchSize", MUST, V),
        Row("10-batch-full", "a full batch leaves at once", MUST, V),
        Row("10-batch-lone", "a lone request waits the whole maxBatchDelay", MUST, V),
        Row("10-max-worker", "no automatic scaling between min and max", MUST, V),
    ),
)
