"""Archives in S3, over real connections to a server that speaks it."""

import socket
import subprocess
import sys
from collections import Counter

import aiobotocore.session
import pytest

from flambeau_runtime.archive.fetch.ranged import PART
from flambeau_runtime.errors import (
    CredentialsMissing,
    DigestMismatch,
    SourceNotFound,
    SourceUnavailable,
)
from tests.compat.server import until
from tests.sources.archives import WRONG, digest_of
from tests.sources.cutting_relay import cutting

pytestmark = [pytest.mark.process, pytest.mark.timeout(90)]

KEY_ID, KEY = "AKIA-of-the-tests", "the-secret-key-of-the-tests"


@pytest.fixture(scope="module")
def moto(tmp_path_factory):
    """The port of a server that answers like S3."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with (tmp_path_factory.mktemp("moto") / "log").open("wb") as log:
        command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
        server = subprocess.Popen(command, stdout=log, stderr=log)
        try:
            until(lambda: is_open(port))
            yield port
        finally:
            server.kill()
            server.wait()


def is_open(port):
    with socket.socket() as asking:
        return asking.connect_ex(("127.0.0.1", port)) == 0


@pytest.fixture
def endpoint(moto, monkeypatch):
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{moto}")
    return f"http://127.0.0.1:{moto}"


@pytest.fixture
def keys(monkeypatch):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", KEY_ID)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", KEY)


@pytest.fixture
async def bucket(endpoint):
    """Return what puts an object into a bucket."""
    session = aiobotocore.session.AioSession()
    opened = {"aws_access_key_id": KEY_ID, "aws_secret_access_key": KEY, "endpoint_url": endpoint}
    async with session.create_client("s3", region_name="us-east-1", **opened) as client:
        await client.create_bucket(Bucket="models")

        async def put(key, content, **more):
            await client.put_object(Bucket="models", Key=key, Body=content, **more)

        yield put


@pytest.mark.usefixtures("keys")
async def test_an_object_comes_with_its_progress(store, bucket, archive):
    await bucket("a b/x.mar", archive)
    told = []
    path = await store.fetch("s3://models/a b/x.mar", on_progress=lambda *now: told.append(now))
    assert path.read_bytes() == archive
    assert told[-1] == (len(archive), len(archive))
    assert (await store.open(path)).digest == digest_of(archive)


async def test_without_credentials_it_asks_as_nobody(store, bucket, archive):
    await bucket("public.mar", archive, ACL="public-read")
    await bucket("private.mar", archive)
    assert (await store.fetch("s3://models/public.mar")).read_bytes() == archive
    with pytest.raises(SourceNotFound, match="403 Forbidden"):
        await store.fetch("s3://models/private.mar")


async def test_credentials_by_name_are_files_of_a_secret_and_nothing_else(
    store, bucket, archive, secrets, endpoint, monkeypatch
):
    await bucket("x.mar", archive)
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_PROFILE", "one that nobody has")
    entries = {
        "AWS_ACCESS_KEY_ID": f"{KEY_ID}\n",
        "AWS_SECRET_ACCESS_KEY": KEY,
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    secrets("s3-read", entries)
    path = await store.fetch("s3://models/x.mar", credentials="s3-read")
    assert path.read_bytes() == archive


@pytest.mark.parametrize(
    ("entries", "why"),
    [
        pytest.param(None, "create the Secret", id="no Secret"),
        pytest.param({}, "there is nothing in", id="an empty one"),
        pytest.param({"readme.txt": "hello"}, "AWS_ACCESS_KEY_ID …", id="keys that mean nothing"),
    ],
)
async def test_missing_credentials_are_named(store, secrets, entries, why):
    if entries is not None:
        secrets("s3-read", entries)
    with pytest.raises(CredentialsMissing, match=f"^credentials s3-read: .*{why}"):
        await store.fetch("s3://models/x.mar", credentials="s3-read")


@pytest.mark.usefixtures("keys")
async def test_a_download_that_is_cut_goes_on_where_it_stopped(
    store, bucket, archive, moto, monkeypatch
):
    await bucket("cut.mar", archive)
    with cutting(moto) as relay:
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{relay.port}")
        relay.cut = {2 * PART: 1}
        path = await store.fetch("s3://models/cut.mar", digest_of(archive))
    assert path.read_bytes() == archive
    asked = Counter(relay.ranges)
    assert (asked[0], asked[PART], asked[2 * PART]) == (1, 1, 2), "only what is missing comes again"


@pytest.mark.usefixtures("keys")
async def test_what_changed_meanwhile_comes_whole(store, bucket, archive, moto, monkeypatch):
    other = b"other" * 4_000_000
    await bucket("changed.mar", archive)
    with cutting(moto) as relay:
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{relay.port}")
        relay.cut = {2 * PART: 9}
        with pytest.raises(SourceUnavailable):
            await store.fetch("s3://models/changed.mar")
        (partial,) = store.downloads.glob("*.partial")
        assert partial.stat().st_size == 2 * PART
        relay.cut = {}
        await bucket("changed.mar", other)
        path = await store.fetch("s3://models/changed.mar")
    assert path.read_bytes() == other


@pytest.mark.usefixtures("keys")
async def test_a_wrong_digest_is_not_kept(store, bucket, archive):
    await bucket("x.mar", archive)
    with pytest.raises(DigestMismatch, match=r"s3://models/x\.mar: wanted digest"):
        await store.fetch("s3://models/x.mar", WRONG)
    assert not list(store.downloads.glob("*.archive"))


@pytest.mark.parametrize(
    ("uri", "why"),
    [
        pytest.param("s3://models/gone.mar", "404 Not Found", id="no such object"),
        pytest.param("s3://nowhere/x.mar", "404 Not Found", id="no such bucket"),
        pytest.param("s3://models/folder/", "write s3://BUCKET/KEY", id="a folder"),
        pytest.param("s3://models", "write s3://BUCKET/KEY", id="a bucket"),
    ],
)
@pytest.mark.usefixtures("bucket", "keys")
async def test_what_is_not_there_is_said_at_once(store, uri, why):
    with pytest.raises(SourceNotFound, match=why):
        await store.fetch(uri)


@pytest.mark.usefixtures("keys")
async def test_an_endpoint_at_the_metadata_service_is_refused(store, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://169.254.169.254")
    with pytest.raises(SourceNotFound, match=r"169\.254\.169\.254 is a link-local address"):
        await store.fetch("s3://models/x.mar")


@pytest.mark.usefixtures("keys")
async def test_no_secret_is_in_an_error(store, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{KEY}.invalid")
    with pytest.raises(SourceUnavailable) as refused:
        await store.fetch("s3://models/x.mar")
    assert KEY not in str(refused.value)
    assert "***" in str(refused.value)


async def test_a_missing_library_is_named_with_its_extra(store, tmp_path, monkeypatch):
    (tmp_path / "path").mkdir()
    (tmp_path / "path" / "s3fs.py").write_text("raise ImportError('no s3fs here')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "path"))
    with pytest.raises(SourceNotFound, match=r'pip install "flambeau-runtime\[s3\]"'):
        await store.fetch("s3://models/x.mar")
