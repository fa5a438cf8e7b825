"""`/live /ready /state /drain`: what each answers, to good and to bad requests."""

import asyncio
from collections.abc import Callable

import orjson
import pytest

from flambeau_runtime.api.authorisation import make_keys, make_state_gate
from flambeau_runtime.api.state import make_state_app
from flambeau_runtime.serving.catalogue import Catalogue
from flambeau_runtime.serving.counters import LATENCY_BUCKETS_MS
from flambeau_runtime.settings import Settings
from tests.dataplane.asgi_client import call
from tests.dataplane.fake_fleet import DIGEST, World, version
from tests.dataplane.managed_world import KEY, entry, started, written
from tests.dataplane.signing import bearer


@pytest.fixture
async def managed(tmp_path):
    async with started(tmp_path) as world:
        yield world


@pytest.fixture
async def unmanaged(tmp_path):
    world = World()
    settings = Settings(state_dir=tmp_path)
    world.app = make_state_app(world.catalogue, make_state_gate(settings, None))
    async with world.converger:
        yield world


# probes


async def test_probes_need_no_token(managed):
    for path, status in (("/live", 200), ("/ready", 503)):
        assert (await call(managed.app, "GET", path, peer="10.0.0.9")).status == status


async def test_readiness_is_told_per_model(managed):
    await managed.put(written(1))
    await managed.until(lambda: managed.catalogue.report().ready)
    ready = await call(managed.app, "GET", "/ready")
    assert (ready.status, ready.json()) == (200, {"ready": True, "models": {"vision": True}})
    assert (await call(managed.app, "GET", "/ready/vision")).status == 200
    nobody = await call(managed.app, "GET", "/ready/nobody")
    assert (nobody.status, nobody.json()["message"]) == (404, "Model not found: nobody")


async def test_a_model_that_loads_is_not_ready(managed):
    managed.fleet.held.add("1.0")
    await managed.put(written(1))
    await managed.loading("1.0")
    assert (await call(managed.app, "GET", "/ready")).json()["models"] == {"vision": False}
    assert (await call(managed.app, "GET", "/ready/vision")).status == 503


async def test_draining_ends_readiness_and_nothing_else(managed):
    await managed.put(written(1))
    await managed.until(lambda: managed.catalogue.report().ready)
    assert (await call(managed.app, "POST", "/drain")).status == 401
    assert (await managed.call("POST", "/drain")).status == 202
    assert (await call(managed.app, "GET", "/ready")).status == 503
    assert (await call(managed.app, "GET", "/live")).status == 200
    assert (await managed.get())["observed"]["draining"]
    assert managed.answering() == "1.0"


# what is seen


async def test_state_shows_the_wish_as_written_and_the_facts(managed):
    document = written(3, entry("1.0", workers={"min": 2}))
    accepted = await managed.put(document)
    assert (accepted.status, accepted.json()["sequence"]) == (202, 3)
    await managed.until(lambda: managed.catalogue.report().ready)
    state = await managed.get()
    assert state["desired"] == document
    assert state["revision"] == managed.catalogue.revision
    buckets = len(LATENCY_BUCKETS_MS)
    assert state["observed"] == {
        "ready": True,
        "draining": False,
        "cautious": False,
        "queueWaitSeconds": 0,
        "saturation": 0,
        "memory": {"limitBytes": None, "availableBytes": None, "deviceAvailableBytes": None},
        "models": [
            {
                "name": "vision",
                "required": True,
                "default": "1.0",
                "ready": True,
                "versions": [
                    {
                        "version": "1.0",
                        "phase": "Ready",
                        "weight": 100,
                        "workers": {
                            "wanted": 2,
                            "ready": 2,
                            "starting": 0,
                            "failed": 0,
                            "restarts": 0,
                        },
                        "digest": DIGEST,
                        "bytes": 10,
                        "fetchedBytes": 10,
                        "lastFailure": None,
                        "memory": {"workerBytes": 0, "deviceBytes": 0},
                        "counters": {
                            "requests": 0,
                            "errors": 0,
                            "latency": {
                                "boundsMs": list(LATENCY_BUCKETS_MS),
                                "counts": [0] * (buckets + 1),
                                "sumMs": 0,
                            },
                        },
                        "window": None,
                    }
                ],
            }
        ],
    }


async def test_a_failure_is_told_with_its_reason_message_log_and_attempts(managed):
    managed.fleet.broken["1.0"] = "InitializeFailed"
    await managed.put(written(1))
    await managed.until(lambda: managed.phase("1.0") == "Failed")
    version = (await managed.get())["observed"]["models"][0]["versions"][0]
    assert version["phase"] == "Failed"
    assert version["lastFailure"] == {
        "reason": "InitializeFailed",
        "message": "it broke",
        "logTail": "last words",
        "attempts": 1,
    }


async def test_counters_are_told_and_each_start_has_an_id(managed, tmp_path):
    await managed.put(written(1))
    await managed.until(lambda: managed.catalogue.report().ready)
    managed.fleet.of("1.0").counters.answered(0.004, 0.0)
    first = await managed.get()
    counters = first["observed"]["models"][0]["versions"][0]["counters"]
    assert counters["requests"] == 1
    assert counters["latency"]["counts"][2] == 1
    async with started(tmp_path) as again:
        assert (await again.get())["processId"] != first["processId"]


# long polls


async def test_a_poll_is_answered_as_soon_as_something_changed(managed):
    before = (await managed.get())["revision"]
    async with asyncio.timeout(5), asyncio.TaskGroup() as tasks:
        polls = [tasks.create_task(managed.get(f"?after={before}&wait=30s")) for _ in range(50)]
        await asyncio.sleep(0)
        await managed.put(written(1))
    assert all(poll.result()["revision"] > before for poll in polls)


async def test_a_poll_without_news_is_answered_in_time(managed):
    before = (await managed.get())["revision"]
    assert (await managed.get(f"?after={before}&wait=20ms"))["revision"] == before


async def test_a_poll_that_knows_nothing_new_is_answered_at_once(managed):
    assert (await managed.get("?wait=30s"))["desired"] is None
    assert (await managed.get("?after=0&wait=30s"))["desired"] is None


async def test_nobody_waits_longer_than_the_longest_wait(managed, monkeypatch):
    monkeypatch.setattr("flambeau_runtime.api.state.LONGEST_WAIT_S", 0.01)
    before = (await managed.get())["revision"]
    async with asyncio.timeout(5):
        await managed.get(f"?after={before}&wait=9999999m")


@pytest.mark.parametrize(
    ("query", "word"),
    [
        pytest.param("after=-1", "after", id="a negative revision"),
        pytest.param("after=1e3", "after", id="a float"),
        pytest.param("after=" + "9" * 5000, "after", id="an endless number"),
        pytest.param("after=1&wait=soon", "wait", id="a word"),
        pytest.param("after=1&wait=-1s", "wait", id="a negative wait"),
        pytest.param("after=1&wait=1s1s", "wait", id="two durations"),
        pytest.param("after=%D9%A1", "after", id="digits of another script"),
    ],
)
async def test_a_poll_is_refused_with_the_name_of_what_is_wrong(managed, query, word):
    answered = await managed.call("GET", f"/state?{query}")
    assert answered.status == 400
    assert answered.json()["message"].startswith(f"{word} must be")


# bad documents


def changed(path: str, value: object) -> bytes:
    """A good document with one field set (or, with `...`, taken away)."""
    document = written(1, entry("1.0", warmup=[{"body": "[1]"}]))
    *way, last = [int(step) if step.isdigit() else step for step in path.split("/")]
    place = document
    for step in way:
        place = place[step]
    if value is ...:
        del place[last]
    else:
        place[last] = value
    return orjson.dumps(document)


VERSION = "models/0/versions/0/"
AT = "models[0].versions[0]."


@pytest.mark.parametrize(
    ("body", "path", "message"),
    [
        pytest.param(b"", "", "Invalid JSON", id="nothing"),
        pytest.param(b"hello", "", "Invalid JSON", id="no JSON"),
        pytest.param(b'{"sequence": 1', "", "Invalid JSON", id="half of it"),
        pytest.param(b"\xff\xfe", "", "Invalid JSON", id="not UTF-8"),
        pytest.param(b"[" * 100_000, "", "Invalid JSON", id="a deep hole"),
        pytest.param(b"[]", "", "", id="a list"),
        pytest.param(changed("sequence", ...), "sequence", "is missing", id="no sequence"),
        pytest.param(
            changed("sequence", "3"), "sequence", "valid integer", id="a sequence of text"
        ),
        pytest.param(changed("sequence", True), "sequence", "valid integer", id="a true sequence"),
        pytest.param(changed("sequence", -1), "sequence", "greater than", id="a negative sequence"),
        pytest.param(changed("sequence", 2**63), "sequence", "less than", id="an endless sequence"),
        pytest.param(changed("owner/uid", ""), "owner.uid", "at least 1", id="an empty uid"),
        pytest.param(
            changed("generatoin", 1), "generatoin", 'did you mean "generation"?', id="a slip"
        ),
        pytest.param(
            changed(VERSION + "worker", {}),
            AT + "worker",
            'unknown field; did you mean "workers"?',
            id="a slip deep inside",
        ),
        pytest.param(
            changed(VERSION + "batching/max_size", 3),
            AT + "batching.max_size",
            'did you mean "maxSize"?',
            id="the wrong spelling of a known field",
        ),
        pytest.param(
            changed(VERSION + "warmup/0/zzz", 3),
            AT + "warmup[0].zzz",
            "known are: body, contentType, repeat",
            id="a field like none",
        ),
        pytest.param(
            changed(VERSION + "workers/min", 1.5), AT + "workers.min", "integer", id="half a worker"
        ),
        pytest.param(
            changed(VERSION + "workers/min", 100_000), AT + "workers.min", "", id="too many workers"
        ),
        pytest.param(
            changed(VERSION + "version", 1.0), AT + "version", "string", id="a version of numbers"
        ),
        pytest.param(
            changed(VERSION + "version", "a/b"), AT + "version", "must match", id="a version path"
        ),
        pytest.param(
            changed(VERSION + "source/digest", "sha256:abc"),
            AT + "source.digest",
            "must match",
            id="half a digest",
        ),
        pytest.param(
            changed(VERSION + "timeouts/responseSeconds", 0),
            AT + "timeouts.responseSeconds",
            "greater than 0",
            id="no time to answer",
        ),
        pytest.param(
            changed(VERSION + "timeouts/responseSeconds", "2m"),
            AT + "timeouts.responseSeconds",
            "number",
            id="a time of text",
        ),
        pytest.param(
            changed(VERSION + "env", {"A": 1}), AT + "env.A", "string", id="a number for a variable"
        ),
        pytest.param(
            changed("models/0/default", "9"),
            "models[0].default",
            "is none of the versions: 1.0",
            id="a default that is no version",
        ),
        pytest.param(
            changed("models/0/versions", []), "models[0].versions", "", id="a model of no versions"
        ),
        pytest.param(
            orjson.dumps(written(1, entry("1.0"), entry("1.0"))),
            "models[0].versions[1].version",
            "is there already",
            id="a version twice",
        ),
        pytest.param(
            orjson.dumps({**written(1), "models": written(1)["models"] * 2}),
            "models[1].name",
            "is there already",
            id="a model twice",
        ),
        pytest.param(
            changed(VERSION + "source/uri", "x").replace(b'"x"', b'"x","uri2":NaN'),
            AT + "source.uri2",
            "",
            id="no number at all",
        ),
    ],
)
async def test_a_bad_document_is_refused_with_the_path_and_changes_nothing(
    managed, body, path, message
):
    answered = await managed.put(body)
    assert (answered.status, answered.json()["type"]) == (422, "InvalidDocument")
    (problem,) = answered.json()["errors"]
    assert problem["path"] == path
    assert message in problem["message"]
    assert managed.catalogue.wanted.models == ()
    assert not (managed.directory / "accepted.json").exists()


async def test_every_wrong_field_is_named_at_once(managed):
    document = written(1, entry("1.0", workers={"min": -1}, batchign={}))
    answered = await managed.put(document)
    assert len(answered.json()["errors"]) == 2


async def test_other_content_for_a_version_that_serves_is_refused_by_field(managed):
    await managed.put(written(1))
    await managed.until(lambda: managed.phase("1.0") == "Ready")
    answered = await managed.put(written(2, entry("1.0", source={"uri": "file:///b.mar"})))
    assert answered.status == 422
    assert answered.json()["errors"][0]["path"] == "models[0].versions[0].source.uri"
    assert (await managed.put(written(2))).status == 202


async def test_a_document_of_more_than_a_mebibyte_is_too_large(managed):
    answered = await managed.put(b" " * (1024 * 1024 + 1))
    assert answered.status == 413
    assert answered.json()["message"] == "a document has at most 1048576 bytes"
    assert answered.headers["connection"] == "close"
    largest = orjson.dumps(written(1)).ljust(1024 * 1024)
    assert (await managed.put(largest)).status == 202


async def test_a_client_that_leaves_half_way_changes_nothing(managed):
    body = orjson.dumps(written(1))
    assert await managed.call("PUT", "/state", body, cut=True) is None
    assert (await managed.get())["desired"] is None


async def test_what_a_document_leaves_open_is_filled_from_the_servers_limits(managed):
    bare = {"version": "1.0", "source": {"uri": "file:///a.mar"}}
    assert (await managed.put(written(1, bare))).status == 202
    (model,) = managed.catalogue.wanted.models
    (spec,) = model.versions
    assert (spec.workers, spec.batching.max_size, spec.timeouts.response_s) == (1, 1, 120)


# who may, and how


@pytest.mark.parametrize(
    ("method", "target"), [("PUT", "/state"), ("GET", "/state"), ("POST", "/drain")]
)
async def test_unsigned_calls_are_refused_even_from_loopback(managed, method, target):
    answered = await call(managed.app, method, target, orjson.dumps(written(1)))
    assert (answered.status, answered.json()["type"]) == (401, "Unauthorised")
    assert answered.headers["www-authenticate"] == "Bearer"
    assert managed.catalogue.wanted.models == ()


async def test_a_signature_of_another_body_is_refused(managed):
    headers = {"Authorization": bearer(KEY, orjson.dumps(written(1)))}
    answered = await call(managed.app, "PUT", "/state", orjson.dumps(written(2)), headers)
    assert answered.status == 401


@pytest.mark.parametrize(
    ("method", "target", "status"),
    [
        pytest.param("POST", "/state", 405, id="posting a state"),
        pytest.param("DELETE", "/state", 405, id="deleting it"),
        pytest.param("GET", "/drain", 405, id="asking to drain"),
        pytest.param("PUT", "/ready", 405, id="making ready"),
        pytest.param("GET", "/state/models", 404, id="a part of the state"),
        pytest.param("GET", "/ready/vision/1.0", 404, id="readiness of a version"),
    ],
)
async def test_what_is_not_there_is_refused(managed, method, target, status):
    answered = await managed.call(method, target)
    assert (answered.status, answered.json()["code"]) == (status, status)


# unmanaged runtimes


async def test_an_unmanaged_runtime_shows_its_facts_to_loopback_callers(unmanaged):
    await unmanaged.wants(version("1.0"))
    state = (await call(unmanaged.app, "GET", "/state")).json()
    assert state["desired"] is None
    assert state["observed"]["models"][0]["default"] == "1.0"


async def test_an_unmanaged_runtime_takes_no_document_and_says_what_it_lacks(unmanaged):
    answered = await call(unmanaged.app, "PUT", "/state", orjson.dumps(written(1)))
    assert answered.status == 405
    assert "--boot-file" in answered.json()["message"]


def keyed(tmp_path) -> Callable:
    """The application of an unmanaged runtime with a key file."""
    settings = Settings(state_dir=tmp_path)
    return make_state_app(Catalogue(), make_state_gate(settings, make_keys(settings)))


async def test_an_unmanaged_runtime_wants_the_key_from_others_and_from_browsers(tmp_path):
    app = keyed(tmp_path)
    key = orjson.loads((tmp_path / "key_file.json").read_bytes())["management"]["key"]
    bearer = {"Authorization": f"Bearer {key}"}
    page = {"Origin": "http://evil.example"}
    assert (await call(app, "GET", "/state", peer="10.0.0.7")).status == 400
    assert (await call(app, "GET", "/state", headers=bearer, peer="10.0.0.7")).status == 200
    assert (await call(app, "POST", "/drain", headers=page)).status == 400
    assert (await call(app, "POST", "/drain", headers={**page, **bearer})).status == 202
