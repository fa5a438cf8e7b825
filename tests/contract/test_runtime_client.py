"""The operator's client and the runtimes: the one place where both spellings of `/state` meet.

The stand-in that fast tests use is held to the same suite as the real runtime.
"""

import asyncio
import contextlib
import json
import socket
import sys
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from flambeau_operator.doors import Pod
from flambeau_operator.errors import Refused, Silent
from flambeau_operator.local.pod import read_listening
from flambeau_operator.local.pod_log import log_tail
from flambeau_operator.resources.pod_state import (
    Document,
    ModelEntry,
    Owner,
    ShadowEntry,
    SourceEntry,
    StickyEntry,
    ToleranceEntry,
    VersionEntry,
    VersionPhase,
    WarmupEntry,
)
from flambeau_operator.resources.pod_state_json import document_to_json
from flambeau_operator.runtime_client import HttpRuntimeClient, Patience, Signer, base_url
from tests.compat.server import write_archive

pytestmark = [pytest.mark.process, pytest.mark.timeout(90)]

OWNER = Owner("team-a", "vision", "uid-1")
EMPTY = Document(OWNER, 1, 1)
HASTY = Patience(try_s=0.2, tries=3, between_s=0.01, max_answer_bytes=10_000)
TESTS = Path(__file__).parents[1]

STANDIN = pytest.param((sys.executable, str(TESTS / "standin_runtime.py")), id="stand-in")
REAL = pytest.param((sys.executable, "-m", "flambeau_runtime"), id="real runtime")
RUNTIMES = pytest.mark.parametrize("command", [STANDIN, REAL])


def clock():
    return datetime.now(UTC)


def signer(at=clock):
    return Signer(Ed25519PrivateKey.generate(), at)


def pod_at(address, owner_uid=OWNER.uid, *, ready=True):
    return Pod("vision-0", "pod-uid", owner_uid, "hash", address, True, False, 0, None, ready=ready)


def wanting(sequence, source="file:///nowhere/m-1.0.mar", **entry):
    version = VersionEntry("1.0", SourceEntry(source), **entry)
    return Document(OWNER, sequence, 1, (ModelEntry("m", "1.0", (version,)),))


@contextlib.asynccontextmanager
async def runtime(command, folder, keys, document=EMPTY):
    """A managed runtime that has booted this document; yields its pod and its boot file."""
    boot_file = folder / "models.json"
    content = {"document": document_to_json(document), "publicKeys": keys}
    boot_file.write_text(json.dumps(content))
    with (folder / "log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            *command,
            *("--inference-address", "127.0.0.1:0", "--management-address", "127.0.0.1:0"),
            *("--metrics-address", "127.0.0.1:0", "--state-dir", str(folder / "state")),
            *("--boot-file", str(boot_file), "--owner-uid", OWNER.uid),
            stdout=log,
            stderr=log,
        )
    try:
        yield pod_at(await address_of(process, folder)), boot_file
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


async def address_of(process, folder):
    async with asyncio.timeout(60):
        while True:
            listening = read_listening(folder / "state" / "listening.json", process.pid)
            if listening is not None:
                return listening.management
            assert process.returncode is None, log_tail(folder / "log")
            await asyncio.sleep(0.02)


@contextlib.asynccontextmanager
async def talking(command, folder, document=EMPTY):
    """A client and a pod that accepts it."""
    ours = signer()
    async with (
        runtime(command, folder, [ours.public_key], document) as (pod, _),
        HttpRuntimeClient(ours) as client,
    ):
        yield client, pod


# --- against runtimes -----------------------------------------------------------------------------


@RUNTIMES
async def test_a_pod_reports_the_document_it_booted(command, tmp_path):
    async with talking(command, tmp_path) as (client, pod):
        state = await client.get_state(pod)
    assert state.desired == EMPTY
    assert state.revision
    assert state.process_id
    assert not state.draining


@RUNTIMES
async def test_a_pod_gives_back_the_very_document_it_was_told(command, tmp_path):
    entry = VersionEntry(
        "1.0",
        SourceEntry("file:///nowhere/m.mar", "sha256:" + "a" * 64),
        workers=3,
        max_size=8,
        max_delay_s=0.05,
        response_s=60.0,
        startup_s=90.0,
        env={"OMP_NUM_THREADS": "2"},
        warmup=(WarmupEntry('{"a": "ü"}', "application/json", 2),),
    )
    model = ModelEntry("m", None, (entry,), required=False)
    document = Document(OWNER, 2, 7, (model,))
    async with talking(command, tmp_path) as (client, pod):
        await client.put_state(pod, document)
        assert (await client.get_state(pod)).desired == document


async def test_a_real_pod_says_who_gets_what_and_what_came_of_it(tmp_path):
    command = (sys.executable, "-m", "flambeau_runtime")
    archive = tmp_path / write_archive(tmp_path)
    versions = tuple(
        VersionEntry(number, SourceEntry(archive.as_uri()), weight=weight)
        for number, weight in (("1.0", 0), ("2.0", 30), ("3.0", 0))
    )
    tolerances = (ToleranceEntry("$.score", 0.1, 0.01),)
    model = ModelEntry(
        "m",
        "1.0",
        versions,
        sticky=StickyEntry(header="x-user"),
        shadow=ShadowEntry("3.0", 50, tolerances, ("$.id",)),
        window="abc.1",
    )
    async with talking(command, tmp_path) as (client, pod):
        assert (await client.get_state(pod)).cautious
        await client.put_state(pod, Document(OWNER, 2, 1, (model,)))
        async with asyncio.timeout(60):
            state = await client.get_state(pod)
            while not all(it.phase is VersionPhase.READY for it in state.models[0].versions):
                state = await client.get_state(pod, after=state.revision, wait_s=5)
    assert state.desired == Document(OWNER, 2, 1, (model,))
    assert not state.cautious
    assert [it.weight for it in state.models[0].versions] == [70, 30, 0]
    for version in state.models[0].versions:
        assert (version.window.id, version.window.requests) == ("abc.1", 0)
        bounds = version.window.latency.bounds_ms
        assert (bounds[0], bounds[-1]) == (0.1, 100_000)
        assert len(version.window.latency.counts) == len(bounds) + 1


@RUNTIMES
async def test_a_long_poll_ends_when_something_changes(command, tmp_path):
    async with talking(command, tmp_path) as (client, pod):
        before = await client.get_state(pod)
        poll = asyncio.create_task(client.get_state(pod, after=before.revision, wait_s=10))
        await asyncio.sleep(0)
        await client.put_state(pod, wanting(2))
        async with asyncio.timeout(5):
            after = await poll
    assert after.revision != before.revision


@RUNTIMES
async def test_a_long_poll_without_news_ends_with_its_wait(command, tmp_path):
    async with talking(command, tmp_path) as (client, pod):
        await client.get_state(pod)
        async with asyncio.timeout(5):
            while True:  # what it does at start may still be news
                before = await client.get_state(pod)
                after = await client.get_state(pod, after=before.revision, wait_s=0.2)
                if after.revision == before.revision:
                    return


@RUNTIMES
@pytest.mark.parametrize(
    "document",
    [
        pytest.param(replace(EMPTY, sequence=4), id="a lower sequence"),
        pytest.param(wanting(5, workers=2), id="another document of the same sequence"),
        pytest.param(
            replace(wanting(9), owner=replace(OWNER, uid="uid-2")), id="an owner of another uid"
        ),
    ],
)
async def test_the_fence_refuses(command, document, tmp_path):
    async with talking(command, tmp_path) as (client, pod):
        await client.put_state(pod, wanting(5))
        with pytest.raises(Refused) as refused:
            await client.put_state(pod, document)
        assert (await client.get_state(pod)).desired == wanting(5)
    assert (refused.value.status, refused.value.body["type"]) == (409, "StaleDocument")
    assert refused.value.body["current"] == {"uid": OWNER.uid, "sequence": 5}


@RUNTIMES
async def test_the_same_document_again_is_accepted(command, tmp_path):
    async with talking(command, tmp_path) as (client, pod):
        await client.put_state(pod, wanting(5))
        await client.put_state(pod, wanting(5))


@RUNTIMES
@pytest.mark.parametrize(
    ("stranger", "audience"),
    [
        pytest.param(signer(), OWNER.uid, id="signed by another key"),
        pytest.param(None, "uid-2", id="meant for another owner"),
    ],
)
async def test_a_call_that_is_not_ours_is_refused(command, stranger, audience, tmp_path):
    ours = signer()
    async with (
        runtime(command, tmp_path, [ours.public_key]) as (pod, _),
        HttpRuntimeClient(stranger or ours) as client,
    ):
        with pytest.raises(Refused) as refused:
            await client.put_state(replace(pod, owner_uid=audience), wanting(9))
    assert refused.value.status == 401


@RUNTIMES
@pytest.mark.parametrize(
    ("off_s", "accepted"),
    [
        pytest.param(-50, True, id="a clock 50 seconds behind is forgiven"),
        pytest.param(50, True, id="a clock 50 seconds ahead is forgiven"),
        pytest.param(-600, False, id="a call of ten minutes ago is not"),
    ],
)
async def test_clocks_may_differ_a_little(command, off_s, accepted, tmp_path):
    ours = signer(lambda: clock() + timedelta(seconds=off_s))
    async with (
        runtime(command, tmp_path, [ours.public_key]) as (pod, _),
        HttpRuntimeClient(ours) as client,
    ):
        if accepted:
            await client.get_state(pod)
        else:
            with pytest.raises(Refused):
                await client.get_state(pod)


@RUNTIMES
async def test_a_second_key_in_the_boot_file_is_accepted_while_keys_rotate(command, tmp_path):
    old, new = signer(), signer()
    async with runtime(command, tmp_path, [old.public_key]) as (pod, boot_file):
        content = json.loads(boot_file.read_text())
        content["publicKeys"].append(new.public_key)
        partial = boot_file.with_suffix(".partial")
        partial.write_text(json.dumps(content))
        partial.replace(boot_file)
        for ours in (old, new):
            async with HttpRuntimeClient(ours) as client, asyncio.timeout(10):
                await accepted(client, pod)


async def accepted(client, pod):
    """A file may be seen a little later than it was written."""
    while True:
        try:
            return await client.get_state(pod)
        except Refused:
            await asyncio.sleep(0.1)


@RUNTIMES
async def test_a_draining_pod_says_so_and_is_not_ready(command, tmp_path):
    async with talking(command, tmp_path) as (client, pod):
        async with asyncio.timeout(10):
            while not await client.is_ready(pod):  # noqa: ASYNC110  it has no event for this
                await asyncio.sleep(0.02)
        await client.drain(pod)
        assert not await client.is_ready(pod)
        assert (await client.get_state(pod)).draining


async def test_a_version_whose_archive_is_missing_fails_with_a_reason(tmp_path):
    command = REAL.values[0]
    async with talking(command, tmp_path, wanting(1)) as (client, pod):
        revision = None
        async with asyncio.timeout(60):
            while True:
                state = await client.get_state(pod, after=revision, wait_s=5)
                version = state.version("m", "1.0")
                if version and version.failure:
                    break
                revision = state.revision
        assert not await client.is_ready(pod)
    assert version.phase == VersionPhase.FAILED
    assert version.failure.reason == "FetchFailed"
    assert "/nowhere/m-1.0.mar" in version.failure.message


async def test_a_document_that_is_not_valid_is_refused_with_paths_and_changes_nothing(tmp_path):
    command = REAL.values[0]
    async with talking(command, tmp_path) as (client, pod):
        with pytest.raises(Refused) as refused:
            await client.put_state(pod, wanting(2, workers=-1))
        assert (await client.get_state(pod)).desired == EMPTY
    assert (refused.value.status, refused.value.body["type"]) == (422, "InvalidDocument")
    assert refused.value.body["errors"][0]["path"] == "models[0].versions[0].workers.min"


# --- against whatever else may be at an address ---------------------------------------------------


@contextlib.asynccontextmanager
async def stranger(*answers, host="127.0.0.1"):
    """A server that gives these raw answers, one per connection; None hangs."""
    heard, left, writers = [], list(answers), []

    async def serve(reader, writer):
        writers.append(writer)
        answer = left.pop(0) if len(left) > 1 else left[0]
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            heard.append(await reader.readuntil(b"\r\n\r\n"))
            if answer is None:
                await reader.read()
            else:
                writer.write(answer)
                await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, host, 0)
    try:
        yield base_url(host, server.sockets[0].getsockname()[1]), heard
    finally:
        server.close()
        for writer in writers:
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()


@contextlib.asynccontextmanager
async def asking(*answers, host="127.0.0.1"):
    """A client without patience, and such a server."""
    async with (
        stranger(*answers, host=host) as (address, heard),
        HttpRuntimeClient(signer(), HASTY) as client,
    ):
        yield client, address, heard


def http(body, status="200 OK", *headers):
    lines = [f"HTTP/1.1 {status}", f"content-length: {len(body)}", "connection: close", *headers]
    return "\r\n".join([*lines, "", ""]).encode() + body


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(None, id="it never answers"),
        pytest.param(b"", id="it hangs up"),
        pytest.param(b"SSH-2.0-OpenSSH_9\r\n\r\n", id="it is no HTTP server"),
        pytest.param(http(b"not json"), id="the answer is not JSON"),
        pytest.param(http(b"[1, 2]"), id="the answer is no object"),
        pytest.param(http(b"{}" + b" " * 20_000), id="the answer is too long"),
        pytest.param(http(b"{", "200 OK")[:-1], id="the answer is cut short"),
        pytest.param(http(b"{}", "503 Unavailable"), id="it is not itself"),
        pytest.param(http(b"", "302 Found", "location: /elsewhere"), id="it sends us elsewhere"),
    ],
)
async def test_what_is_not_a_runtimes_answer_is_silence(answer):
    async with asking(answer) as (client, address, heard):
        with pytest.raises(Silent):
            await client.get_state(pod_at(address))
    assert len(heard) >= 3, "it is asked three times"


async def test_a_pod_that_fails_the_clusters_probe_is_asked_once_and_holds_up_nobody():
    async with asking(None) as (client, address, heard):
        with pytest.raises(Silent):
            await client.get_state(pod_at(address, ready=False))
    assert len(heard) == 1


async def test_one_answer_of_three_tries_is_enough():
    state = http(json.dumps({"revision": 7, "observed": {"ready": True}}).encode())
    async with asking(None, b"", state) as (client, address, _):
        assert (await client.get_state(pod_at(address))).ready


async def test_nobody_at_an_address_is_silence():
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        address = base_url(*closed.getsockname())
        async with HttpRuntimeClient(signer(), HASTY) as client:
            for call in (client.get_state, client.drain, client.is_ready):
                with pytest.raises(Silent):
                    await call(pod_at(address))


async def test_a_pod_without_an_address_is_silent():
    async with HttpRuntimeClient(signer(), HASTY) as client:
        with pytest.raises(Silent, match="no address"):
            await client.get_state(pod_at(""))


async def test_a_refusal_is_not_asked_again():
    body = json.dumps({"code": 401, "type": "Unauthorised", "message": "no"}).encode()
    async with asking(http(body, "401 Unauthorized")) as (client, address, heard):
        with pytest.raises(Refused, match="401 Unauthorised: no"):
            await client.put_state(pod_at(address), EMPTY)
    assert len(heard) == 1


async def test_no_proxy_stands_between_the_operator_and_its_pods(monkeypatch):
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    async with asking(http(b"{}")) as (client, address, _):
        await client.get_state(pod_at(address))


async def test_a_state_of_another_release_is_read_as_far_as_it_goes():
    state = {
        "revision": 3,
        "observed": {
            "ready": True,
            "shiny": {"new": True},
            "models": [{"name": "m", "versions": [{"version": "1", "phase": "Levitating"}]}],
        },
    }
    async with asking(http(json.dumps(state).encode())) as (client, address, _):
        read = await client.get_state(pod_at(address))
    assert read.ready
    assert read.version("m", "1").phase == VersionPhase.UNKNOWN


async def test_ipv6_addresses_are_written_in_brackets():
    assert base_url("::1", 80) == "http://[::1]:80"
    try:
        async with asking(http(b"{}"), host="::1") as (client, address, _):
            await client.get_state(pod_at(address))
    except OSError:
        return  # this machine has no IPv6
