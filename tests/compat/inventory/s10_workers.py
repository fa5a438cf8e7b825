"""Section 10: the life of workers."""

from tests.compat.inventory.row import DIFFERENT, MUST, SAME, SHOULD, Row, S, Section, V

DRAINED = "what has begun is answered first"
DECLARED = (
    "no snapshots: the state is declared, in a ModelDeployment or in config.properties, and what"
    " a restart brings back is what was declared"
)

SECTION = Section(
    "10",
    "Workers",
    (
        Row("10-process", "one process per worker, one batch at a time", MUST, V, SAME),
        Row(
            "10-socket",
            "a unix socket in the temp directory, or TCP, leads to each worker",
            MUST,
            V,
            DIFFERENT,
            "a pair of sockets that only the two processes have: no file and no port to guard",
        ),
        Row("10-states", "the API shows READY, or UNLOADING also while loading", SHOULD, V, SAME),
        Row("10-back-off", "restart back-off 1, 1, 2, 3, 5 … s, reset by a success", MUST, V, SAME),
        Row(
            "10-give-up",
            "gives up maxRetryTimeoutInSec after the first failure, and nothing retries",
            MUST,
            V,
            DIFFERENT,
            "the version is Failed and says why; it is loaded again from time to time, with a"
            " growing delay, so it comes back when the cause is gone",
        ),
        Row(
            "10-given-up-same",
            "then the same worker count: 206, and no change",
            MUST,
            V,
            DIFFERENT,
            "it is another try, and the answer tells how it went",
        ),
        Row("10-given-up-more", "a higher count adds workers that serve", MUST, V, SAME),
        Row("10-given-up-revive", "0 and back, or registering again, revives it", MUST, V, SAME),
        Row("10-startup-limit", "startupTimeout bounds loading", MUST, V, SAME),
        Row(
            "10-startup-process-limit",
            "two minutes for the process to appear",
            MUST,
            S,
            DIFFERENT,
            "startupTimeout bounds both: the process and its loading",
        ),
        Row(
            "10-crash",
            "a crash: that batch 500, restart, the queue waits",
            MUST,
            V,
            SAME,
            "once another worker has had the batch: see 1.2",
        ),
        Row("10-timeout", "a timeout: kill and restart", MUST, V, SAME),
        Row("10-scale-down-newest", "scaling down ends the newest workers first", SHOULD, V, SAME),
        Row(
            "10-scale-down",
            "scaling down: a request in flight gets 500, or no answer",
            SHOULD,
            V,
            DIFFERENT,
            DRAINED,
        ),
        Row(
            "10-unregister",
            "unregister: a request in flight is lost, often without an answer",
            SHOULD,
            V,
            DIFFERENT,
            DRAINED,
        ),
        Row(
            "10-snapshots",
            "snapshots after every change unless --ncs",
            SHOULD,
            V,
            DIFFERENT,
            DECLARED,
        ),
        Row("10-shutdown", "SIGTERM: listeners close, workers end", MUST, V, SAME),
        Row(
            "10-shutdown-snapshot",
            "SIGTERM writes a shutdown snapshot",
            SHOULD,
            V,
            DIFFERENT,
            DECLARED,
        ),
        Row("10-ping-loading", "/ping is Healthy before any model is loaded", MUST, V, SAME),
        Row(
            "10-listening",
            "it listens once it knows its start-up models",
            SHOULD,
            V,
            DIFFERENT,
            "it listens first: probes need not wait for downloads. `torchserve --start` returns"
            " once the models take requests",
        ),
        Row("10-batch-joins", "further requests join a batch up to batchSize", MUST, V, SAME),
        Row("10-batch-full", "a full batch leaves at once", MUST, V, SAME),
        Row(
            "10-batch-lone",
            "a lone request waits the whole maxBatchDelay, also for an idle worker",
            MUST,
            V,
            DIFFERENT,
            "maxBatchDelay is the most it waits: an idle worker takes what is there, unless more is"
            " on its way",
        ),
        Row("10-max-worker", "no automatic scaling between min and max", MUST, V, SAME),
    ),
)
