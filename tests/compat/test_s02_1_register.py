"""Section 2.1: POST /models."""

from __future__ import annotations

import http.server
import json
import threading
import zipfile

import pytest

from tests.compat.mar import write_mar
from tests.compat.server import until
from tests.compat.test_s01_2_errors import error
from tests.compat.ts import new_name

pytestmark = [pytest.mark.process, pytest.mark.timeout(180)]

ECHO = """
    def handle(data, context):
        if data is not None:
            return ["first" for _ in data]

    def other(data, context):
        if data is not None:
            return ["second" for _ in data]
"""
BROKEN = "import a_module_that_nobody_has"
SLOW = """
    import time

    def handle(data, context):
        if data is None:
            time.sleep(6)
            return None
        return ["x" for _ in data]
"""
JSON = {"Content-Type": "application/json"}


@pytest.fixture
def archive(ts):
    return ts.add_archive(ECHO)


@pytest.fixture
def register(ts, archive):
    """Register the archive under a new name, which goes away after the test."""
    names = []

    def register(*, body=None, url=archive, **said):
        names.append(said.setdefault("model_name", new_name("named")))
        if body is None:
            return ts.manage("POST", "/models", url=url, **said)
        fields = {"url": url, "model_name": names[-1], **body}
        return ts.manage("POST", "/models", json.dumps(fields).encode(), JSON)

    register.names = names
    yield register
    for name in names:
        ts.manage("DELETE", f"/models/{name}")


def described(ts, register):
    return ts.describe(register.names[-1])


def said(answer):
    return answer.status, answer.json["status"]


@pytest.mark.row("2.1-where", "2.1-no-workers-asked")
@pytest.mark.parametrize("as_json", [False, True])
def test_a_model_is_registered_without_workers(ts, register, as_json):
    answer = register(body={} if as_json else None)
    (name,) = register.names
    sentence = (
        f'Model \\"{name}\\" Version: 1.0 registered with 0 initial workers. '
        "Use scale workers API to add workers for the model."
    )
    assert (answer.status, answer.body) == (200, f'{{\n  "status": "{sentence}"\n}}\n'.encode())
    assert answer.header("content-type") == "application/json"
    assert described(ts, register)["workers"] == []


@pytest.mark.row("2.1-where")
def test_fields_of_a_json_body_are_read(ts, register):
    body = {
        "batch_size": "3",
        "max_batch_delay": 40,
        "initial_workers": 0.0,
        "response_timeout": 7,
        "startup_timeout": 9,
        "runtime": "python3",
        "unknown": [1],
        "handler": None,
    }
    assert register(body=body).status == 200
    found = described(ts, register)
    assert [found[key] for key in ("batchSize", "maxBatchDelay", "runtime")] == [3, 40, "python3"]
    assert [found[key] for key in ("responseTimeout", "startupTimeout")] == [7, 9]


@pytest.mark.row("2.1-where")
def test_a_json_body_counts_alone(ts, archive):
    name = new_name("unread")
    body = json.dumps({"model_name": name}).encode()
    path = f"/models?url={archive}&model_name={name}"
    charset = {"Content-Type": "application/json; charset=utf-8"}
    answer = ts.manage("POST", path, body, charset)
    message = "Parameter url is required."
    assert (answer.status, answer.body) == (400, error(400, "BadRequestException", message))


@pytest.mark.row("2.1-form")
def test_a_form_is_not_read(ts, archive):
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    answer = ts.manage("POST", "/models", f"url={archive}".encode(), form)
    message = "Parameter url is required."
    assert (answer.status, answer.body) == (400, error(400, "BadRequestException", message))


@pytest.mark.row("2.1-json-wrong", only="ours")
@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("{", "The body is not JSON."),
        ("[" * 100_000, "The body is not JSON."),
        ("[]", "The body is not a JSON object."),
        ('{"url": "x", "batch_size": "abc"}', 'batch_size is not a whole number: "abc"'),
        ('{"url": "x", "batch_size": 1.5}', "batch_size is not a whole number: 1.5"),
        ('{"url": "x", "batch_size": true}', "batch_size is not a whole number: true"),
        (
            '{"url": "x", "batch_size": 99999999999}',
            "batch_size is not a whole number: 99999999999",
        ),
        ('{"url": {}}', "url is not a text or a switch: write it in quotes."),
    ],
)
def test_json_that_cannot_be_read_is_refused_by_name(ts, body, message):
    answer = ts.manage("POST", "/models", body.encode(), JSON)
    assert (answer.status, answer.json["message"]) == (400, message)


@pytest.mark.row("2.1-url")
@pytest.mark.parametrize("kind", ["a file of the store", "a folder of the store", "a folder"])
def test_a_model_is_read_from(ts, archive, register, kind):
    folder = ts.place.store / "unpacked"
    if not folder.exists():
        with zipfile.ZipFile(ts.place.store / archive) as packed:
            packed.extractall(folder)
    url = {"a file of the store": archive, "a folder of the store": "unpacked"}.get(kind, folder)
    assert register(url=str(url)).status == 200
    assert described(ts, register)["modelUrl"] == str(url)


@pytest.fixture
def web(tmp_path):
    """A web server of the test's own: its folder, and its address."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *arguments):
            super().__init__(*arguments, directory=str(tmp_path))

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Quiet)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield tmp_path, f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.row("2.1-url")
def test_a_model_is_fetched(ts, register, web):
    folder, address = web
    url = f"{address}/{write_mar(folder, new_name('fetched'), ECHO).name}"
    assert register(url=url, initial_workers=1).status == 200
    assert described(ts, register)["modelUrl"] == url


@pytest.mark.row("2.1-model-name")
@pytest.mark.parametrize("said_name", [{}, {"model_name": ""}])
def test_the_name_is_the_manifests_unless_said(ts, archive, said_name):
    name = archive.removesuffix("-1.0.mar")
    try:
        assert ts.manage("POST", "/models", url=archive, **said_name).status == 200
        assert ts.describe(name)["modelName"] == name
    finally:
        ts.manage("DELETE", f"/models/{name}")


@pytest.mark.row("2.1-handler")
@pytest.mark.parametrize(
    ("handler", "answer"),
    [
        ({}, "first"),
        ({"handler": "handler.py"}, "first"),
        ({"handler": "handler.py:other"}, "second"),
    ],
)
def test_the_handler_is_the_manifests_unless_said(ts, register, handler, answer):
    register(**handler, initial_workers=1)
    assert ts.predict(register.names[-1]).text == answer


@pytest.mark.row("2.1-runtime")
@pytest.mark.parametrize("runtime", ["python", "python3", "LSP"])
def test_a_known_runtime_is_told(ts, register, runtime):
    assert register(runtime=runtime).status == 200
    assert described(ts, register)["runtime"] == runtime


@pytest.mark.row("2.1-runtime")
@pytest.mark.parametrize("runtime", ["java", "PYTHON", ""])
def test_an_unknown_runtime_is_refused(register, runtime):
    answer = register(runtime=runtime)
    message = f"Invalid RuntimeType value: {runtime}"
    assert (answer.status, answer.body) == (400, error(400, "BadRequestException", message))


@pytest.mark.row("2.1-batch-size")
@pytest.mark.parametrize(
    ("size", "found"), [({}, 1), ({"batch_size": 3}, 3), ({"batch_size": "x"}, 1)]
)
def test_the_batch_size_is_one_unless_a_number_is_said(ts, register, size, found):
    register(**size)
    assert described(ts, register)["batchSize"] == found


@pytest.mark.row("2.1-max-batch-delay")
@pytest.mark.parametrize(
    ("delay", "found"), [({}, 100), ({"max_batch_delay": 3}, 3), ({"max_batch_delay": "x"}, 100)]
)
def test_the_batch_delay_is_100_ms_unless_a_number_is_said(ts, register, delay, found):
    register(**delay)
    assert described(ts, register)["maxBatchDelay"] == found


@pytest.mark.row("2.1-json-batch-delay", only="ours")
def test_a_json_body_without_a_delay_leaves_it_at_100_ms(ts, register):
    register(body={})
    assert described(ts, register)["maxBatchDelay"] == 100


@pytest.mark.row("2.1-batch-nonsense", only="ours")
def test_no_batch_is_empty_and_no_time_negative(ts, register):
    register(batch_size=0, max_batch_delay=-5, response_timeout=0, startup_timeout=-2)
    found = described(ts, register)
    assert [found[key] for key in ("batchSize", "maxBatchDelay")] == [1, 100]
    assert [found[key] for key in ("responseTimeout", "startupTimeout")] == [120, 120]


@pytest.mark.row("2.1-initial-workers")
def test_workers_are_those_said(ts, register):
    register(initial_workers=2)
    found = described(ts, register)
    assert (found["minWorkers"], found["maxWorkers"], len(found["workers"])) == (2, 2, 2)


@pytest.mark.row("2.1-initial-workers")
def test_workers_are_by_default_those_of_the_configuration(serve):
    server = serve(config={"default_workers_per_model": "1"})
    assert server.manage("POST", "/models", url=server.add_archive(ECHO, "m")).status == 200
    assert server.describe("m")["minWorkers"] == 1


@pytest.mark.row("2.1-initial-workers-negative")
@pytest.mark.parametrize("workers", [-1, "x", ""])
def test_workers_that_cannot_be_are_none(ts, register, workers):
    assert register(initial_workers=workers).status == 200
    assert described(ts, register)["minWorkers"] == 0


TUNED = """
    minWorkers: 1
    maxWorkers: 2
    batchSize: 4
    maxBatchDelay: 30
    responseTimeout: 3
    startupTimeout: 60
"""


@pytest.mark.row("2.1-initial-workers-file", "2.1-response-timeout", "2.1-startup-timeout")
def test_the_archives_own_workers_and_timeouts_go_first(ts, register):
    archive = ts.add_archive(ECHO, config=TUNED)
    asked = {"initial_workers": 3, "response_timeout": 99, "startup_timeout": 98, "batch_size": 9}
    answer = register(url=archive, **asked)
    assert said(answer)[1].endswith("registered with 1 initial workers")
    found = described(ts, register)
    assert (found["minWorkers"], found["maxWorkers"], found["batchSize"]) == (1, 2, 9)
    assert (found["responseTimeout"], found["startupTimeout"]) == (3, 60)


@pytest.mark.row("2.1-response-timeout", "2.1-startup-timeout")
def test_timeouts_are_those_said_or_two_minutes(ts, register):
    register(response_timeout=7, startup_timeout=8)
    found = described(ts, register)
    assert (found["responseTimeout"], found["startupTimeout"]) == (7, 8)
    register()
    found = described(ts, register)
    assert (found["responseTimeout"], found["startupTimeout"]) == (120, 120)


@pytest.mark.row("2.1-synchronous", "2.1-workers-synchronous")
@pytest.mark.parametrize("word", [{}, {"synchronous": "true"}, {"synchronous": "TRUE"}])
def test_a_synchronous_registration_answers_when_its_workers_serve(ts, register, word):
    answer = register(initial_workers=1, **word)
    (name,) = register.names
    assert said(answer) == (200, f'Model "{name}" Version: 1.0 registered with 1 initial workers')
    assert ts.describe(name)["workers"][0]["status"] == "READY"


@pytest.mark.row("2.1-synchronous", "2.1-workers-asynchronous")
@pytest.mark.parametrize("word", ["false", "no", "1", ""])
def test_any_other_word_is_asynchronous(ts, register, word):
    answer = register(initial_workers=1, synchronous=word)
    assert said(answer) == (202, "Processing worker updates...")
    until(lambda: ts.predict(register.names[-1]).status == 200)


@pytest.mark.row("2.1-synchronous")
def test_a_json_registration_is_synchronous_too(register):
    assert said(register(body={"initial_workers": 1}))[0] == 200
    assert said(register(body={"initial_workers": 1, "synchronous": False}))[0] == 202


@pytest.mark.row("2.1-s3-sse-kms", only="ours")
def test_a_kms_key_may_be_asked_for(register):
    assert register(s3_sse_kms="true").status == 200
    assert register(body={"s3_sse_kms": True}).status == 200


@pytest.mark.row("2.1-no-url", "2.1-empty-url", "2.1-file-absent", "2.1-relative")
@pytest.mark.parametrize(
    ("query", "status", "kind", "message"),
    [
        ("", 400, "BadRequestException", "Parameter url is required."),
        ("?url=", 404, "ModelNotFoundException", "empty url"),
        ("?url=x.mar", 404, "ModelNotFoundException", "Model not found at: x.mar"),
        ("?url=/no/x.mar", 404, "ModelNotFoundException", "Model not found at: /no/x.mar"),
        ("?url=ftp://a/x.mar", 404, "ModelNotFoundException", "Model not found at: ftp://a/x.mar"),
        (
            "?url=../x.mar",
            404,
            "ModelNotFoundException",
            "Relative path is not allowed in url: ../x.mar",
        ),
    ],
)
def test_a_model_that_is_not_there_is_refused(ts, query, status, kind, message):
    answer = ts.manage("POST", f"/models{query}")
    assert (answer.status, answer.body) == (status, error(status, kind, message))
    assert answer.header("connection") == "close"


@pytest.mark.row("2.1-not-allowed")
def test_an_address_that_is_not_allowed_is_refused(serve):
    server = serve(config={"allowed_urls": "https://models.example/.*"})
    url = "http://127.0.0.1:1/x.mar"
    answer = server.manage("POST", "/models", url=url)
    assert answer.status == 404
    assert answer.json["type"] == "ModelNotFoundException"
    assert answer.json["message"].startswith(f"Given URL {url} does not match any allowed URL(s)")


@pytest.mark.row("2.1-download-fails")
def test_a_download_that_fails_says_from_where(ts):
    url = "http://127.0.0.1:1/x.mar"
    answer = ts.manage("POST", "/models", url=url)
    assert (answer.status, answer.json["type"]) == (400, "DownloadArchiveException")
    assert answer.json["message"].startswith(f"Failed to download archive from: {url}")


@pytest.mark.row("2.1-download-absent", only="ours")
def test_a_download_that_is_not_there_is_not_found(ts, web):
    url = f"{web[1]}/absent.mar"
    answer = ts.manage("POST", "/models", url=url)
    assert (answer.status, answer.json["type"]) == (404, "ModelNotFoundException")
    assert answer.json["message"] == f"Failed to download archive from: {url}: 404 Not Found"


@pytest.mark.row("2.1-no-archive", only="ours")
def test_what_is_no_archive_is_an_invalid_model_and_why_is_said(ts, register):
    (ts.place.store / "junk.mar").write_bytes(b"junk")
    answer = register(url="junk.mar")
    assert (answer.status, answer.json["type"]) == (400, "InvalidModelException")
    assert "junk" in answer.json["message"]


@pytest.mark.row("2.1-conflict")
def test_a_version_is_registered_once(register):
    register(model_name="twice")
    answer = register(model_name="twice")
    message = "Model version 1.0 is already registered for model twice"
    assert (answer.status, answer.body) == (409, error(409, "ConflictStatusException", message))


@pytest.mark.row("2.1-worker-cannot-start")
def test_a_model_that_cannot_start_is_taken_back(ts, register):
    answer = register(url=ts.add_archive(BROKEN), initial_workers=1)
    (name,) = register.names
    assert (answer.status, answer.json["type"]) == (500, "InternalServerException")
    started = f"Failed to start workers for model {name} version: 1.0"
    assert answer.json["message"].startswith(started)
    assert ts.manage("GET", f"/models/{name}").status == 404


@pytest.mark.row("2.1-not-in-time", only="ours")
def test_workers_that_take_too_long_are_a_failure(ts, register):
    answer = register(url=ts.add_archive(SLOW), initial_workers=1, startup_timeout=1)
    assert answer.status in {206, 500}


@pytest.mark.row("2.1-downloads-deleted", only="ours")
def test_a_download_is_never_in_the_way(ts, register, web):
    folder, address = web
    archive = write_mar(folder, new_name("fetched"), ECHO)
    for _ in range(2):
        assert register(url=f"{address}/{archive.name}").status == 200
    assert not (ts.place.store / archive.name).exists()


@pytest.mark.row("2.1-name-in-store", only="ours")
def test_a_file_of_the_same_name_in_the_store_is_no_obstacle(ts, register, web):
    folder, address = web
    name = new_name("fetched")
    archive = write_mar(folder, name, ECHO)
    write_mar(ts.place.store, name, BROKEN)
    assert register(url=f"{address}/{archive.name}", initial_workers=1).status == 200


@pytest.mark.row("2.1-api-off", "2.5-off", "2.5-always")
def test_without_the_model_api_nothing_is_registered_or_unregistered(serve):
    server = serve(
        "--models",
        "m=m-1.0.mar",
        config={"enable_model_api": "false", "default_workers_per_model": "1"},
        default_flags=("--disable-token-auth",),
        prepare=lambda place: write_mar(place.store, "m", ECHO),
    )
    until(lambda: server.predict("m").status == 200)
    for method, path in (("POST", "/models?url=m-1.0.mar"), ("DELETE", "/models/m")):
        answer = server.manage(method, path)
        assert (answer.status, answer.json["type"]) == (405, "MethodNotAllowedException")
    assert server.manage("GET", "/models").status == 200
    assert server.manage("GET", "/models/m").status == 200
    assert server.manage("PUT", "/models/m?min_worker=1").status == 202
    assert server.manage("PUT", "/models/m/1.0/set-default").status == 200


@pytest.mark.row("2.1-url-s3", only="ours")
def test_an_archive_comes_out_of_a_bucket(serve):
    """Without a bucket to be asked, the answer still tells who was asked for it."""
    nobody = {"AWS_ENDPOINT_URL": "http://127.0.0.1:9", "AWS_ACCESS_KEY_ID": "a"}
    server = serve(env={**nobody, "AWS_SECRET_ACCESS_KEY": "s", "AWS_MAX_ATTEMPTS": "1"})
    answer = server.manage("POST", "/models", url="s3://bucket/x.mar")
    assert (answer.status, answer.json["type"]) == (400, "DownloadArchiveException")
    said = answer.json["message"]
    assert said.startswith("Failed to download archive from: s3://bucket/x.mar: ")
    assert "127.0.0.1:9" in said
