"""Section 7: the contract with handlers."""

from tests.compat.inventory.row import MUST, RARE, SAME, SHOULD, Row, S, Section, V

SECTIONS = (
    Section(
        "7.1",
        "Handlers: kinds and loading",
        (
            Row("7.1-module-function", "handle at module level; None for loading", MUST, V),
            Row("7.1-named-function", "file:function", SHOULD, V),
            Row("7.1-class", "exactly one class defined in the file", MUST, V),
            Row("7.1-default-handler", "ts.torch_handler.<name> when not importable", MUST, V),
            Row("7.1-import-error", "an ImportError is reported as a missing handler", MUST, S),
            Row("7.1-envelope", "an envelope wraps the entry point", SHOULD, V),
            Row("7.1-import-path", "working directory and import path: the model's", MUST, V),
            Row("7.1-once", "loads once per worker; state persists", MUST, V),
        ),
    ),
    Section(
        "7.2",
        "Handlers: context",
        (
            Row("7.2-names", "manifest, model_name, model_yaml_config", MUST, V),
            Row("7.2-system-properties", "system_properties", MUST, V),
            Row("7.2-request-ids", "request_ids equal the answer's x-request-id", MUST, V),
            Row("7.2-request-headers", "get_request_header, get_all_request_header", MUST, V),
            Row("7.2-response", "set_response_…, get_response_…", MUST, V),
            Row("7.2-metrics", "metrics, metrics.request_ids", MUST, V),
            Row("7.2-cl-socket", "cl_socket", SHOULD, V, SAME),
            Row("7.2-sequences", "stopping_criteria, get_sequence_id, …", RARE, V, SAME),
        ),
    ),
    Section(
        "7.3",
        "Handlers: BaseHandler",
        (
            Row("7.3-attributes", "its attributes", MUST, S),
            Row("7.3-device", "the device it chooses", MUST, V),
            Row("7.3-loading", "eager, TorchScript, ONNX, AOT; else an error", MUST, V),
            Row("7.3-compile", "pt2 options: torch.compile", SHOULD, S),
            Row("7.3-index-to-name", "index_to_name.json in three shapes", MUST, V),
            Row("7.3-preprocess", "preprocess: as_tensor of the rows", MUST, V),
            Row("7.3-inference", "inference and postprocess", MUST, V),
            Row("7.3-handle", "handle, explain, describe, HandlerTime, profiler", MUST, V),
            Row("7.3-explain", "explain_handle and get_insights", SHOULD, V),
        ),
    ),
    Section(
        "7.4",
        "Handlers: default handlers, envelopes and imports",
        (
            Row("7.4-image-classifier", "image_classifier", MUST, V),
            Row("7.4-object-detector", "object_detector", SHOULD, V),
            Row("7.4-image-segmenter", "image_segmenter", RARE, V),
            Row("7.4-text-classifier", "text_classifier", RARE, S),
            Row("7.4-engines", "vllm_handler, trt_llm_handler, dali", RARE, S),
            Row("7.4-envelope-body", "envelope body", SHOULD, V),
            Row("7.4-envelope-json", "envelope json", SHOULD, V),
            Row("7.4-envelope-kserve", "envelope kserve", SHOULD, V),
            Row("7.4-envelope-kservev2", "envelope kservev2", SHOULD, V),
            Row("7.4-imports", "the imports that nearly every handler has", MUST, V),
            Row("7.4-imports-rest", "the other imports seen in handlers", SHOULD, V),
        ),
    ),
)
