"""The OpenAPI document of the inference port, and that of one model's predictions."""

from __future__ import annotations

from flambeau_runtime.api.openapi import (
    BINARY,
    FREE,
    SWITCH,
    TEXT,
    Json,
    answer,
    array_of,
    document,
    errors,
    in_path,
    in_query,
    operation,
    record,
    reference,
)

MODEL = in_path("model_name", "Name of the model.")
MODEL_VERSION = in_path("model_version", "Version of the model.")
FAILURES = (404, 503, 507)

SCHEMAS: Json = {
    "Fields": {**FREE, "description": "For example; lists and plain values are read, too."},
    "OpenInferenceError": {
        "allOf": [reference("Error"), record({"error": TEXT})],
    },
    "ServerMetadata": record(
        {
            "name": TEXT,
            "version": TEXT,
            "extensions": array_of(TEXT),
            "extenstion": array_of(TEXT),
        }
    ),
    "ModelMetadata": record(
        {
            "name": TEXT,
            "versions": array_of(TEXT),
            "platform": TEXT,
            "inputs": array_of(FREE),
            "outputs": array_of(FREE),
        }
    ),
    "ModelReady": record({"name": TEXT, "ready": SWITCH}),
}

BODY: Json = {
    "description": "Whatever the model's handler understands, of any content type.",
    "required": False,
    "content": {
        "application/octet-stream": {"schema": BINARY},
        "application/json": {"schema": reference("Fields")},
    },
}
PREDICTED: Json = {
    "description": "Whatever the model's handler answers; it may choose another status, too.",
    "content": {
        "application/octet-stream": {"schema": BINARY},
        "application/json": {"schema": {}},
        "*/*": {"schema": BINARY},
    },
}


def paths() -> Json:
    """Return the paths of the port."""
    return {**_ping(), **_torchserve(), **_kserve(), **_others(), **_open_inference()}


def schemas() -> Json:
    """Return the schemas they speak of."""
    return SCHEMAS


def describe_model(name: str) -> Json:
    """Return the document of one model's predictions."""
    described = {
        path: {"post": _prediction(operation_name, f"Ask model {name} for a prediction.")}
        for path, operation_name in (
            (f"/predictions/{name}", "predictions"),
            (f"/explanations/{name}", "explanations"),
            (f"/v1/models/{name}:predict", "v1_predict"),
            (f"/v2/models/{name}/infer", "v2_infer"),
        )
    }
    title = f"RESTful API for: {name}"
    return document(described, SCHEMAS, title=title, version="1.0.0")


def _prediction(name: str, description: str, *parameters: Json, v2: bool = False) -> Json:
    failures = (*FAILURES, 504) if v2 else FAILURES
    schema = "OpenInferenceError" if v2 else "Error"
    responses = {"200": PREDICTED, **errors(*failures, schema=schema)}
    return operation(name, description, responses, parameters, requestBody=BODY)


def _ping() -> Json:
    responses = {
        "200": answer("The workers are well", reference("Status")),
        **errors(),
        "500": answer("A model has lost workers for good", reference("Status")),
    }
    return {"/ping": {"get": operation("ping", "Say whether the workers are well.", responses)}}


def _torchserve() -> Json:
    default = "by the default version of a model"
    named = "by one version of a model"
    return {
        "/predictions/{model_name}": {
            "post": _prediction("predictions", f"Get a prediction {default}.", MODEL)
        },
        "/predictions/{model_name}/{model_version}": {
            "post": _prediction(
                "version_predictions", f"Get a prediction {named}.", MODEL, MODEL_VERSION
            )
        },
        "/explanations/{model_name}": {
            "post": _prediction("explanations", f"Get an explanation {default}.", MODEL)
        },
        "/explanations/{model_name}/{model_version}": {
            "post": _prediction(
                "version_explanations", f"Get an explanation {named}.", MODEL, MODEL_VERSION
            )
        },
    }


def _kserve() -> Json:
    v1 = "KServe's first protocol"
    v2 = "the Open Inference Protocol"
    version = "/v2/models/{model_name}/versions/{model_version}"
    return {
        "/v1/models/{model_name}:predict": {
            "post": _prediction("v1_predict", f"Get a prediction: {v1}.", MODEL)
        },
        "/v1/models/{model_name}:explain": {
            "post": _prediction("v1_explain", f"Get an explanation: {v1}.", MODEL)
        },
        "/v2/models/{model_name}/infer": {
            "post": _prediction("v2_infer", f"Get a prediction: {v2}.", MODEL, v2=True)
        },
        "/v2/models/{model_name}/explain": {
            "post": _prediction("v2_explain", f"Get an explanation: {v2}.", MODEL, v2=True)
        },
        f"{version}/infer": {
            "post": _prediction(
                "v2_version_infer", f"Get a prediction: {v2}.", MODEL, MODEL_VERSION, v2=True
            )
        },
        f"{version}/explain": {
            "post": _prediction(
                "v2_version_explain", f"Get an explanation: {v2}.", MODEL, MODEL_VERSION, v2=True
            )
        },
    }


def _others() -> Json:
    name = in_query("model_name", TEXT, "The model; by default the one there was at the start.")
    return {
        "/invocations": {
            "post": _prediction(
                "invocations", "Get a prediction; query fields become fields of the row.", name
            )
        },
        "/models/{model_name}/invoke": {
            "post": _prediction(
                "invoke", "Get a prediction; query fields become fields of the row.", MODEL
            )
        },
        "/{model_name}/predict": {
            "post": {
                **_prediction("predict", "Get a prediction (oldest spelling).", MODEL),
                "deprecated": True,
            }
        },
        "/{model_name}/{model_version}/predict": {
            "post": {
                **_prediction(
                    "version_predict",
                    "Get a prediction (oldest spelling).",
                    MODEL,
                    MODEL_VERSION,
                ),
                "deprecated": True,
            }
        },
    }


def _open_inference() -> Json:
    live = record({"live": SWITCH})
    ready = record({"ready": SWITCH})
    version = "/v2/models/{model_name}/versions/{model_version}"
    return {
        "/v2": _get("v2_server", "Say what this server is.", reference("ServerMetadata")),
        "/v2/health/live": _get("v2_live", "Say that the server is there.", live),
        "/v2/health/ready": _get(
            "v2_ready", "Say whether all models are ready.", ready, busy=ready
        ),
        "/v2/models/{model_name}": _about("v2_model", MODEL),
        "/v2/models/{model_name}/ready": _ready("v2_model_ready", MODEL),
        version: _about("v2_version", MODEL, MODEL_VERSION),
        f"{version}/ready": _ready("v2_version_ready", MODEL, MODEL_VERSION),
    }


def _about(name: str, *parameters: Json) -> Json:
    return _get(name, "Say what a model is.", reference("ModelMetadata"), *parameters)


def _ready(name: str, *parameters: Json) -> Json:
    ready = reference("ModelReady")
    return _get(name, "Say whether a model is ready.", ready, *parameters, busy=ready)


def _get(
    name: str, description: str, schema: Json, *parameters: Json, busy: Json | None = None
) -> Json:
    found = (404,) if parameters else ()
    responses = {"200": answer("The answer", schema), **errors(*found, schema="OpenInferenceError")}
    if busy is not None:
        responses["503"] = answer("Not ready", busy)
    return {"get": operation(name, description, responses, parameters)}
