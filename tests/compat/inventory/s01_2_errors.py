"""Section 1.2: status codes and error bodies of inference."""

from tests.compat.inventory.row import MUST, RARE, SAME, SHOULD, Row, S, Section, V

SECTION = Section(
    "1.2",
    "Inference: status codes and error bodies",
    (
        Row(
            "1.2-body",
            "every error is JSON of code, type and message, indented by two, with a final newline",
            MUST,
            V,
            SAME,
        ),
        Row("1.2-error-headers", "an error is application/json and closes its connection", MUST, V),
        Row("1.2-unknown-path", "unknown path: 404 ResourceNotFoundException", MUST, V),
        Row("1.2-method", "method not allowed: 405 MethodNotAllowedException", SHOULD, V),
        Row("1.2-unknown-model", "unknown model: 404 ModelNotFoundException", MUST, V, SAME),
        Row("1.2-unknown-version", "unknown version: 404 ModelVersionNotFoundException", MUST, V),
        Row("1.2-no-workers", "a model without workers: 503 ServiceUnavailableException", MUST, V),
        Row("1.2-queue-full", "a full job queue: 503 ServiceUnavailableException", MUST, V),
        Row("1.2-handler-raises", "a handler that raises: 503 Prediction failed", MUST, V),
        Row(
            "1.2-prediction-exception",
            "PredictionException(message, code): that code and that message",
            MUST,
            V,
        ),
        Row(
            "1.2-out-of-memory",
            "MemoryError, or CUDA in the exception's text: 507 Out of resources",
            SHOULD,
            V,
        ),
        Row("1.2-batch-mismatch", "another number of results: 503", MUST, V),
        Row("1.2-not-a-list", "no list returned: 503 Invalid model predict output", MUST, V),
        Row("1.2-not-json", "a result that cannot become JSON: 503", SHOULD, V),
        Row("1.2-worker-died", "the worker ends during the call: 500 Worker died.", MUST, V),
        Row("1.2-oom-killed", "a worker killed for memory, exit code 137: 507, or 500", SHOULD, V),
        Row("1.2-response-timeout", "no answer within responseTimeout: 500 Worker died.", MUST, V),
        Row("1.2-response-too-large", "an answer above max_response_size: 500", SHOULD, V),
        Row("1.2-request-too-large", "a request above max_request_size: 413, no body", MUST, V),
        Row("1.2-client-timeout", "clientTimeoutInMills over: the answer is dropped", RARE, V),
        Row(
            "1.2-given-up",
            "a worker past its retry window: requests wait in the queue for ever",
            SHOULD,
            V,
        ),
        Row(
            "1.2-restarting",
            "while a worker restarts, a request waits and is served after recovery",
            MUST,
            V,
        ),
        Row("1.2-token", "a missing or wrong token: 400 InvalidKeyException", MUST, V),
        Row("1.2-malformed", "malformed HTTP: 400 BadRequestException", RARE, S),
        Row("1.2-failing-row", "a failing row fails its whole batch", MUST, V),
    ),
)
