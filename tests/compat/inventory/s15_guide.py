"""Section 15: what the two guides of users say, which not always is what TorchServe does."""

from tests.compat.inventory.row import DIFFERENT, MUST, SAME, SHOULD, Row, Section, V

SECTION = Section(
    "15",
    "What guides say",
    (
        Row(
            "15-batch-keys",
            "enable_batch, batch_size, max_batch_delay in config.properties are ignored",
            MUST,
            V,
            DIFFERENT,
            "they are the defaults of models that say nothing of their own",
        ),
        Row("15-single", "a single prediction with the guide's handler", MUST, V, SAME),
        Row(
            "15-list",
            "a JSON list to a handler that takes one object: 503",
            SHOULD,
            V,
            DIFFERENT,
            "it is split into rows and answered by a list. `splitJsonArrays: off` in"
            " model-config.yaml: theirs",
        ),
        Row(
            "15-management",
            "management as shown needs --disable-token-auth and --enable-model-api",
            MUST,
            V,
            DIFFERENT,
            "callers of the same machine need neither, others need the key."
            " `disable_token_authorization=false` and `enable_model_api=false`, said explicitly:"
            " theirs",
        ),
        Row("15-register", "register as classifier_v2: 200 with one worker", MUST, V, SAME),
        Row("15-lifecycle", "scale, set-default, unregister", MUST, V, SAME),
        Row(
            "15-probes",
            "probes on /ping are 400 while token auth is on",
            MUST,
            V,
            DIFFERENT,
            "health and readiness are open to everyone",
        ),
        Row(
            "15-metrics",
            "/metrics is empty by default, and of the guide's five names it knows one",
            MUST,
            V,
            DIFFERENT,
            "Prometheus by default, with TorchServe's names and the guide's."
            " `metrics_mode=log`: theirs",
        ),
        Row(
            "15-gpu-id",
            "workers of a handler that ignores gpu_id share GPU 0",
            MUST,
            V,
            DIFFERENT,
            "each worker sees its own device only. `device_visibility=all`: theirs",
        ),
        Row("15-java", "Java 17 is needed", MUST, V, DIFFERENT, "no Java"),
    ),
)
