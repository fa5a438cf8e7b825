"""The OpenAPI document of the management port, and that of one model's management."""

from __future__ import annotations

from flambeau_runtime.api.openapi import (
    FREE,
    INTEGER,
    NUMBER,
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

REGISTRATION: Json = {
    "url": {
        "type": "string",
        "description": "The archive: a name in the model store, or where it is fetched from.",
    },
    "model_name": {"type": "string", "description": "Its name; by default the manifest's."},
    "handler": {"type": "string", "description": "Its handler; by default the manifest's."},
    "runtime": {"type": "string", "enum": ["python", "python3", "LSP"]},
    "batch_size": {"type": "integer", "description": "Most requests in one batch.", "default": 1},
    "max_batch_delay": {
        "type": "integer",
        "description": "Longest wait for companions of a batch, in milliseconds.",
        "default": 100,
    },
    "initial_workers": {
        "type": "integer",
        "description": "Workers to start; by default default_workers_per_model, else none.",
    },
    "synchronous": {
        "type": "boolean",
        "description": "Whether the call answers when the workers are there.",
        "default": True,
    },
    "response_timeout": {
        "type": "integer",
        "description": "Longest time for one batch, in seconds.",
        "default": 120,
    },
    "startup_timeout": {
        "type": "integer",
        "description": "Longest time for a worker to load, in seconds.",
        "default": 120,
    },
    "s3_sse_kms": {
        "type": "boolean",
        "description": "Whether the archive in S3 is encrypted with a KMS key.",
        "default": False,
    },
}

WORKER = record(
    {
        "id": TEXT,
        "startTime": TEXT,
        "status": {"type": "string", "enum": ["READY", "UNLOADING"]},
        "memoryUsage": INTEGER,
        "pid": INTEGER,
        "gpu": SWITCH,
        "gpuUsage": TEXT,
    }
)

_COUNTS = ("minWorkers", "maxWorkers", "batchSize", "maxBatchDelay", "parallelLevel")
_SECONDS = ("responseTimeout", "startupTimeout", "maxRetryTimeoutInSec", "clientTimeoutInMills")
_WORDS = ("modelName", "modelVersion", "modelUrl", "runtime", "parallelType", "deviceType")
_SWITCHES = ("continuousBatching", "useJobTicket", "useVenv", "stateful", "loadedAtStartup")
_SEQUENCES = (
    "sequenceMaxIdleMSec",
    "sequenceTimeoutMSec",
    "maxNumSequence",
    "maxSequenceJobQueueSize",
)

SCHEMAS: Json = {
    "Registration": record({"url": REGISTRATION["url"]}, REGISTRATION),
    "ModelList": record(
        {"models": array_of(record({"modelName": TEXT, "modelUrl": TEXT}))},
        {"nextPageToken": {"type": "string", "description": "Absent on the last page."}},
    ),
    "Worker": WORKER,
    "Model": record(
        {
            **dict.fromkeys(_WORDS, TEXT),
            **dict.fromkeys(_COUNTS + _SEQUENCES, INTEGER),
            **dict.fromkeys(_SECONDS, NUMBER),
            **dict.fromkeys(_SWITCHES, SWITCH),
            "workers": array_of(reference("Worker")),
            "jobQueueStatus": record({"remainingCapacity": INTEGER, "pendingRequests": INTEGER}),
        },
        {"deviceIds": array_of(INTEGER), "customizedMetadata": {}},
    ),
    "State": record(
        {"revision": INTEGER, "processId": TEXT, "observed": FREE},
        {"desired": {**FREE, "nullable": True}},
    ),
    "Accepted": record({"revision": INTEGER, "sequence": INTEGER}),
    "Draining": record({"draining": SWITCH}),
    "Readiness": record({"name": TEXT, "ready": SWITCH}),
}

STATUS = reference("Status")
LIVE = record({"live": SWITCH})
READY = record({"ready": SWITCH, "models": {"type": "object", "additionalProperties": SWITCH}})


def paths() -> Json:
    """Return the paths of the port."""
    return {
        "/models": {"get": _list(), "post": _register()},
        **_model_paths(),
        "/v1/models/{model_name}": {"get": _readiness()},
        "/token": {"get": _token()},
        **_runtime_paths(),
    }


def schemas() -> Json:
    """Return the schemas they speak of."""
    return SCHEMAS


def describe_model(name: str) -> Json:
    """Return the document of one model's management."""
    return document(_model_paths(), SCHEMAS, title=f"RESTful Management API for: {name}")


def _list() -> Json:
    responses = {"200": answer("A page of the models, by name", reference("ModelList")), **errors()}
    parameters = (
        in_query("limit", {**INTEGER, "default": 100}, "Most models on a page, up to 100."),
        in_query("next_page_token", TEXT, "The token that the page before came with."),
    )
    return operation("listModels", "List the registered models.", responses, parameters)


def _register() -> Json:
    responses = {
        "200": answer("Registered, and the workers are there", STATUS),
        "202": answer("Registered; the workers are being started", STATUS),
        "206": answer("Registered; not all workers are there yet", STATUS),
        **errors(404, 405, 409, 507),
    }
    parameters = [
        in_query(name, schema, str(schema.get("description", name)))
        for name, schema in REGISTRATION.items()
    ]
    body = {
        "description": "The same as JSON; it then counts alone.",
        "required": False,
        "content": {"application/json": {"schema": reference("Registration")}},
    }
    description = "Register a model; url is said in the query or in the body."
    return operation("registerModel", description, responses, parameters, requestBody=body)


def _model_paths() -> Json:
    one, version = "/models/{model_name}", "/models/{model_name}/{model_version}"
    return {
        one: {
            "get": _describe("describeModel", MODEL),
            "put": _scale("setAutoScale", MODEL),
            "delete": _unregister("unregisterModel", MODEL),
        },
        version: {
            "get": _describe("version_describeModel", MODEL, MODEL_VERSION),
            "put": _scale("version_setAutoScale", MODEL, MODEL_VERSION),
            "delete": _unregister("version_unregisterModel", MODEL, MODEL_VERSION),
        },
        f"{version}/set-default": {"put": _set_default()},
    }


def _describe(name: str, *parameters: Json) -> Json:
    responses = {
        "200": answer("One description per version", array_of(reference("Model"))),
        **errors(404, 503, 507),
    }
    customized = in_query("customized", SWITCH, "Whether the handler is asked, too.")
    description = "Describe the default version, the named one, or `all`."
    return operation(name, description, responses, (*parameters, customized))


def _scale(name: str, *parameters: Json) -> Json:
    responses = {
        "200": answer("The workers are there", STATUS),
        "202": answer("The workers are being changed", STATUS),
        "206": answer("Not all workers are there yet", STATUS),
        **errors(404, 409, 507),
    }
    said = (
        in_query("min_worker", {**INTEGER, "default": 1}, "Workers to have."),
        in_query("max_worker", INTEGER, "Most workers; by default min_worker."),
        in_query("synchronous", {**SWITCH, "default": False}, "Whether to wait for them."),
        in_query("model_version", TEXT, "The version, where the path names none."),
        in_query("number_gpu", INTEGER, "Accepted, without effect."),
        in_query("timeout", INTEGER, "Accepted, without effect."),
    )
    return operation(name, "Change the number of workers.", responses, (*parameters, *said))


def _unregister(name: str, *parameters: Json) -> Json:
    responses = {"200": answer("Unregistered", STATUS), **errors(403, 404, 405, 408, 409)}
    description = "Unregister a version; what it has begun is answered first."
    return operation(name, description, responses, parameters)


def _set_default() -> Json:
    responses = {"200": answer("It answers what names no version", STATUS), **errors(404, 409)}
    description = "Make a version answer the requests that name none."
    return operation("setDefault", description, responses, (MODEL, MODEL_VERSION))


def _readiness() -> Json:
    responses = {"200": answer("The answer", reference("Readiness")), **errors(404)}
    return operation("v1_model_ready", "Say whether a model has a worker.", responses, (MODEL,))


def _token() -> Json:
    responses = {"200": {"description": "A new key is in the key file"}, **errors(404)}
    kind = {"type": "string", "enum": ["inference", "management"]}
    description = "Replace a key; the caller shows the API key. Only where keys are in use."
    parameters = (in_query("type", kind, "Which key.", required=True),)
    return operation("rotateToken", description, responses, parameters)


def _runtime_paths() -> Json:
    """Return the paths that TorchServe does not have: probes, and the operator's."""
    of_model = record({"name": TEXT, "ready": SWITCH})
    return {
        "/live": _get("live", "Say that the runtime is there.", LIVE),
        "/ready": _get("ready", "Say whether all required models are ready.", READY, busy=READY),
        "/ready/{model_name}": _get(
            "model_ready", "Say whether a model is ready.", of_model, MODEL, busy=of_model
        ),
        "/state": {"get": _get_state(), "put": _put_state()},
        "/drain": {"post": _drain()},
    }


def _get(
    name: str, description: str, schema: Json, *parameters: Json, busy: Json | None = None
) -> Json:
    found = (404,) if parameters else ()
    responses = {"200": answer("The answer", schema), **errors(*found)}
    if busy is not None:
        responses["503"] = answer("Not ready", busy)
    return {"get": operation(name, description, responses, parameters)}


def _get_state() -> Json:
    parameters = (
        in_query("after", TEXT, "Wait until the revision is another than this."),
        in_query("wait", TEXT, "How long at most, like 10s; 30s are the most."),
    )
    responses = {
        "200": answer("What is wanted, and what is there", reference("State")),
        **errors(401),
    }
    return operation("getState", "Get the runtime's state.", responses, parameters)


def _put_state() -> Json:
    body = {"required": True, "content": {"application/json": {"schema": FREE}}}
    responses = {
        "202": answer("Accepted", reference("Accepted")),
        **errors(401, 404, 405, 409, 422),
    }
    description = "Replace what is wanted of a managed runtime."
    return operation("putState", description, responses, requestBody=body)


def _drain() -> Json:
    responses = {"202": answer("Accepted", reference("Draining")), **errors(401)}
    return operation("drain", "Stop being ready; what is asked is still answered.", responses)
