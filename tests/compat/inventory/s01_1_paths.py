"""Section 1.1: the paths of the inference port."""

from tests.compat.inventory.row import MUST, RARE, SHOULD, Row, S, Section, V

SECTION = Section(
    "1.1",
    "Inference: paths",
    (
        Row("1.1-ping", "/ping and /ping/anything: 200 Healthy for any method", MUST, V),
        Row(
            "1.1-ping-unhealthy",
            "/ping is 500 Unhealthy while a default version has too few living workers",
            MUST,
            V,
        ),
        Row("1.1-predictions", "/predictions/{model} runs the default version", MUST, V),
        Row(
            "1.1-predictions-methods",
            "/predictions takes POST, PUT, GET, DELETE and PATCH alike",
            MUST,
            V,
        ),
        Row("1.1-predictions-version", "/predictions/{model}/{version} runs that version", MUST, V),
        Row(
            "1.1-url-path",
            "what follows the version reaches the handler as the header url_path",
            SHOULD,
            V,
        ),
        Row(
            "1.1-explanations",
            "/explanations/{model}[/{version}] sets the header explain to True, else False",
            SHOULD,
            V,
        ),
        Row("1.1-kserve-v1", "/v1/models/{model}:predict and :explain, body untouched", MUST, V),
        Row("1.1-kserve-v2", "/v2/models/{model}/infer and /explain, body untouched", MUST, V),
        Row(
            "1.1-oip-health",
            "/v2, /v2/health/live and /v2/health/ready with the Open Inference Protocol on",
            SHOULD,
            V,
        ),
        Row("1.1-oip-health-off", "/v2 and its health paths are 404 unless switched on", SHOULD, V),
        Row(
            "1.1-oip-versions",
            "/v2/models/{m}/versions/{v}/… is 501 with the switch and 404 without",
            RARE,
            V,
        ),
        Row("1.1-oip-metadata", "GET /v2/models/{m} and /v2/models/{m}/ready are 404", RARE, V),
        Row(
            "1.1-invocations",
            "/invocations[?model_name=]: the named model, or the only start-up model",
            SHOULD,
            V,
        ),
        Row("1.1-invocations-no-name", "/invocations with no name to find: 400", SHOULD, V),
        Row("1.1-sagemaker-invoke", "/models/{m}/invoke", RARE, V),
        Row("1.1-oldest", "/{m}/predict and /{m}/{version}/predict", RARE, V),
        Row("1.1-wfpredict", "/wfpredict/{workflow} runs a workflow", RARE, V),
        Row("1.1-openapi", "OPTIONS / gives the port's OpenAPI document; GET / is 405", RARE, V),
        Row("1.1-api-description", "/api-description gives the same document", RARE, V),
        Row("1.1-openapi-model", "OPTIONS /predictions/{m} describes one model", RARE, V),
        Row("1.1-plugins", "endpoints of Java plug-ins, by the first path segment", RARE, S),
        Row("1.1-inference-only", "/models is 404 on the inference port", SHOULD, V),
        Row(
            "1.1-merged",
            "inference and management on one address serve both, and /metrics",
            SHOULD,
            V,
        ),
    ),
)
