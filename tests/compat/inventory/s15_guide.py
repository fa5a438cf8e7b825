"""Section 15: what the two guides of users say, which not always is what TorchServe does."""

from tests.compat.inventory.row import MUST, SHOULD, Row, Section, V

SECTION = Section(
    "15",
    "What guides say",
    (
        Row("15-batch-keys", "enable_batch, batch_size, max_batch_delay are ignored", MUST, V),
        Row("15-single", "a single prediction with the guide's handler", MUST, V),
        Row("15-list", "a JSON list to a handler of one object: 503", SHOULD, V),
        Row("15-management", "management as shown needs two switches", MUST, V),
        Row("15-register", "register as classifier_v2: 200 with one worker", MUST, V),
        Row("15-lifecycle", "scale, set-default, unregister", MUST, V),
        Row("15-probes", "probes on /ping are 400 while token auth is on", MUST, V),
        Row("15-metrics", "/metrics and the guide's five names", MUST, V),
        Row("15-gpu-id", "a handler that ignores gpu_id stays on GPU 0", MUST, V),
        Row("15-java", "Java 17 is needed", MUST, V),
    ),
)
