"""Archives of Google, Azure, the Hugging Face hub and web servers that ask who one is."""

import json
from collections import Counter

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from flambeau_runtime.archive.fetch.ranged import PART
from flambeau_runtime.errors import (
    ArchiveInvalid,
    DigestMismatch,
    SourceNotFound,
    SourceUnavailable,
)
from tests.dataplane.archive_server import serving
from tests.dataplane.archives import files
from tests.sources.archives import WRONG, digest_of
from tests.sources.stand_in_stores import COMMIT, Azure, Google, Hub, basic, standing_in

pytestmark = [pytest.mark.process, pytest.mark.timeout(90)]

ACCOUNT_KEY = "dGhlLWtleS1vZi10aGUtdGVzdHM="


@pytest.fixture
def google(archive, monkeypatch):
    with standing_in(Google, {"models/a/x.mar": archive}) as server:
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", server.url)
        server.uri = "gs://models/a/x.mar"
        yield server


@pytest.fixture
def azure(archive, monkeypatch):
    with standing_in(Azure, {"models/a/x.mar": archive}) as server:
        words = {
            "DefaultEndpointsProtocol": "http",
            "AccountName": "account",
            "AccountKey": ACCOUNT_KEY,
            "BlobEndpoint": f"{server.url}/account",
        }
        connection = ";".join(f"{key}={value}" for key, value in words.items())
        monkeypatch.setenv("AZURE_STORAGE_CONNECTION_STRING", connection)
        server.uri = "az://models/a/x.mar"
        yield server


@pytest.fixture
def hub(archive, monkeypatch):
    with standing_in(Hub, {"model/x.mar": archive}) as server:
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        server.uri = "hf://org/repo/model/x.mar"
        yield server


@pytest.fixture(params=["google", "azure", "hub"])
def server(request):
    return request.getfixturevalue(request.param)


def ranges_of(server):
    asked = [each.get("range") or each.get("x-ms-range") for each in server.gets_of_content()]
    return Counter(each.removeprefix("bytes=").partition("-")[0] for each in asked if each)


async def test_an_archive_comes_with_its_progress(store, server, archive):
    told = []
    path = await store.fetch(server.uri, on_progress=lambda *now: told.append(now))
    assert path.read_bytes() == archive
    assert told[-1] == (len(archive), len(archive))
    assert (await store.open(path)).digest == digest_of(archive)


async def test_a_download_that_is_cut_goes_on_where_it_stopped(store, server, archive):
    server.cut_after = {2 * PART: 1_000_000, 0: 9_000_000}
    path = await store.fetch(server.uri, digest_of(archive))
    assert path.read_bytes() == archive
    if "hf" in server.uri:
        (start,) = map(int, ranges_of(server))
        assert 0 < start <= 9_000_000
    else:
        found = ranges_of(server)
        assert (found["0"], found[str(PART)], found[str(2 * PART)]) == (1, 1, 2)


async def test_a_wrong_digest_is_not_kept(store, server):
    with pytest.raises(DigestMismatch, match=f"^{server.uri}: wanted digest {WRONG}"):
        await store.fetch(server.uri, WRONG)
    assert not list(store.downloads.glob("*.archive"))


async def test_what_is_not_there_is_said_at_once(store, server):
    with pytest.raises(SourceNotFound, match="404 Not Found"):
        await store.fetch(server.uri.replace("x.mar", "gone.mar"))


async def test_a_redirect_to_the_metadata_service_is_refused(store, server):
    server.redirect = "http://169.254.169.254/latest/meta-data/"
    with pytest.raises((SourceNotFound, SourceUnavailable)) as refused:
        await store.fetch(server.uri)
    assert "link-local" in str(refused.value) or "302" in str(refused.value)


@pytest.mark.parametrize("name", ["google", "azure"])
async def test_what_changes_on_the_way_is_never_mixed(store, archive, request, name):
    server = request.getfixturevalue(name)
    other = b"other" * 4_000_000

    def change():
        server.objects["models/a/x.mar"], server.generation = other, 2

    server.once_asked = change
    assert (await store.fetch(server.uri)).read_bytes() == other
    assert len(archive) > 4 * PART, "the last part is asked for after the change"


async def test_a_service_account_opens_a_bucket(store, google, archive, secrets):
    google.open_to = "Bearer opened"
    with pytest.raises(SourceNotFound, match="401"):
        await store.fetch(google.uri)
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    pem = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    account = {
        "type": "service_account",
        "client_email": "reader@project.iam",
        "token_uri": f"{google.url}/token",
        "private_key": key.private_bytes(*pem, serialization.NoEncryption()).decode(),
        "project_id": "project",
    }
    secrets(
        "reader",
        {"service-account.json": json.dumps(account), "STORAGE_EMULATOR_HOST": google.url},
    )
    path = await store.fetch(google.uri, credentials="reader")
    assert path.read_bytes() == archive


async def test_azure_is_asked_whose_account(store):
    with pytest.raises(SourceNotFound, match="set AZURE_STORAGE_ACCOUNT_NAME or"):
        await store.fetch("az://models/x.mar")


async def test_no_secret_of_azure_is_in_an_error(store, azure, monkeypatch):
    monkeypatch.setenv("AZURE_STORAGE_CONNECTION_STRING", f"AccountKey={ACCOUNT_KEY};oops")
    with pytest.raises(SourceUnavailable) as refused:
        await store.fetch(azure.uri)
    assert ACCOUNT_KEY not in str(refused.value)


async def test_a_token_opens_the_hub_and_goes_nowhere_else(store, hub, archive, secrets):
    hub.open_to = "Bearer hf_of_the_tests"
    secrets("hub", {"HF_TOKEN": "hf_of_the_tests", "HF_ENDPOINT": hub.url})
    with pytest.raises(SourceNotFound, match="401"):
        await store.fetch(hub.uri)
    path = await store.fetch(hub.uri, credentials="hub")
    assert path.read_bytes() == archive


async def test_a_whole_repository_is_a_directory_package(store, hub, archive):
    hub.objects = {
        **{name: text.encode() for name, text in files().items()},
        "weights/model.safetensors": archive,
    }
    path = await store.fetch("hf://org/repo@main")
    assert path.parent == store.trees
    package = await store.open(path)
    assert (package.model, package.digest) == ("echo", None)
    assert (package.directory / "weights" / "model.safetensors").read_bytes() == archive
    before = len(hub.gets_of_content())
    assert await store.fetch(f"hf://org/repo@{COMMIT}") == path
    assert len(hub.gets_of_content()) == before, "what is here of that commit is not asked for"
    await store.remove(package)
    assert not path.exists()


async def test_a_repository_that_is_cut_goes_on_with_the_file_it_was_at(store, hub, archive):
    hub.objects = {"a.txt": b"a", "b.bin": archive}
    hub.cut_after = {0: 3_000_000}
    path = await store.fetch("hf://org/repo")
    assert (path / "b.bin").read_bytes() == archive
    names = [line for line, _ in hub.asked if "/resolve/" in line]
    assert sum("a.txt" in each for each in names) == 1


@pytest.mark.parametrize("name", ["../evil", "/evil", "a/../../evil", "a\\evil"])
async def test_a_repository_writes_nothing_outside(store, hub, name, tmp_path):
    hub.objects = {"ok.txt": b"ok", name: b"evil"}
    with pytest.raises(ArchiveInvalid, match="points outside the repository"):
        await store.fetch("hf://org/repo")
    assert not list(tmp_path.rglob("*evil*"))


@pytest.mark.usefixtures("hub")
async def test_a_repository_has_no_digest(store):
    with pytest.raises(ArchiveInvalid, match="name a commit"):
        await store.fetch("hf://org/repo", WRONG)


async def test_a_web_server_may_ask_who_one_is(store, archive, secrets):
    secrets("web", {"username": "me", "password": "pass-of-the-tests"})
    secrets("bearer", {"token": "token-of-the-tests"})
    with serving(archive) as server:
        for name in ("web", "bearer"):
            assert (await store.fetch(server.url, credentials=name)).read_bytes() == archive
        who = [asked.get("authorization") for asked in server.asked]
    assert who == [basic("me", "pass-of-the-tests"), "Bearer token-of-the-tests"]
