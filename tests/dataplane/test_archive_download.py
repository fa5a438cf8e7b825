"""Archives over HTTP: resumed after a cut, told about, refused where they may not come from."""

import asyncio
import hashlib
import random
import ssl
import subprocess
import sys
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from flambeau_runtime.archive import attempts
from flambeau_runtime.archive.store import Store
from flambeau_runtime.errors import DigestMismatch, SourceNotFound, SourceUnavailable
from tests.dataplane.archive_server import serving
from tests.dataplane.archives import files, make_mar

WRONG = f"sha256:{'0' * 64}"


@pytest.fixture
def content(tmp_path):
    noise = random.Random(1).randbytes(6_000_000)  # noqa: S311  bytes that do not compress
    return make_mar(tmp_path / "x.mar", {**files(), "noise": noise}).read_bytes()


@pytest.fixture
def server(content):
    with serving(content) as server:
        yield server


@pytest.fixture
def store(tmp_path, monkeypatch):
    monkeypatch.setattr(attempts, "PAUSES_S", (0.01, 0.01))
    return Store(tmp_path / "root")


def sha256(content):
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


async def test_an_archive_is_downloaded_and_its_progress_told(store, server, content):
    told = []
    path = await store.fetch(server.url, on_progress=lambda *now: told.append(now))
    package = await store.open(path)
    assert package.digest == sha256(content)
    assert told[-1] == (len(content), len(content))
    assert [have for have, _ in told] == sorted(have for have, _ in told)
    assert not path.exists(), "the extracted files are what is kept"


async def test_a_download_that_is_cut_goes_on_where_it_stopped(store, server, content):
    server.cut_after = [2_000_000, 2_000_000]
    path = await store.fetch(server.url, sha256(content))
    assert path.read_bytes() == content
    starts = [int(asked.get("range", "bytes=0-")[6:-1]) for asked in server.asked]
    assert starts[0] == 0
    assert 0 < starts[1] <= 2_000_000
    assert starts[1] < starts[2] <= starts[1] + 2_000_000


async def test_it_starts_anew_when_the_content_has_changed_meanwhile(store, server):
    server.cut_after = [2_000_000]

    def change(*_progress):
        server.content, server.etag = b"new" * 1000, '"two"'

    path = await store.fetch(server.url, on_progress=change)
    assert path.read_bytes() == b"new" * 1000
    assert "range" in server.asked[1]


@pytest.mark.parametrize("etag", ['"one"', ""], ids=["no ranges", "nothing to tell versions apart"])
async def test_a_server_that_cannot_resume_sends_all_again(store, server, content, etag):
    server.cut_after = [1_000_000]
    server.knows_ranges, server.etag = False, etag
    path = await store.fetch(server.url)
    assert path.read_bytes() == content


async def test_a_download_outlives_the_process_that_began_it(store, server, content, tmp_path):
    server.cut_after = [1_000_000] * 20
    server.knows_ranges = False
    with pytest.raises(SourceUnavailable):
        await store.fetch(server.url)
    server.cut_after, server.knows_ranges = [], True
    path = await Store(tmp_path / "root").fetch(server.url)
    assert path.read_bytes() == content
    assert "range" in server.asked[-1]


@pytest.mark.parametrize(
    ("statuses", "tries", "fault"),
    [
        pytest.param([404] * 9, 1, SourceNotFound, id="404 is not asked again"),
        pytest.param([403] * 9, 1, SourceNotFound, id="nor is 403"),
        pytest.param([503] * 9, 3, SourceUnavailable, id="503 is, and then given up"),
        pytest.param([503, 429], 3, None, id="a server that recovers is served from"),
    ],
)
async def test_what_a_server_answers_decides_whether_to_ask_again(
    store, server, statuses, tries, fault
):
    server.statuses = statuses
    if fault is None:
        await store.fetch(server.url)
    else:
        with pytest.raises(fault, match=f"^Failed to download archive from: {server.url}: ") as no:
            await store.fetch(server.url)
        assert type(no.value) is fault
        assert str(statuses[0]) in str(no.value)
    assert len(server.asked) == tries


async def test_a_refused_connection_is_named_without_its_credentials(store):
    with pytest.raises(SourceUnavailable, match="Failed to download") as refused:
        await store.fetch("http://me:secret@127.0.0.1:9/x.mar?key=secret")
    assert "secret" not in str(refused.value)


async def test_a_redirect_to_the_metadata_service_is_refused(store, server):
    server.redirect = "http://169.254.169.254/latest/meta-data/"
    with pytest.raises(SourceNotFound, match="link-local"):
        await store.fetch(server.url)


async def test_a_wrong_digest_is_not_kept(store, server, content):
    with pytest.raises(DigestMismatch, match=r"x\.mar: wanted digest"):
        await store.fetch(server.url, WRONG)
    assert (await store.fetch(server.url, sha256(content))).read_bytes() == content


async def test_a_pinned_archive_is_not_downloaded_again(store, server, content):
    await store.open(await store.fetch(server.url, sha256(content)))
    await store.open(await store.fetch(server.url, sha256(content)))
    assert len(server.asked) == 1


async def test_no_compressed_transfer_is_asked_for(store, server):
    await store.fetch(server.url)
    assert server.asked[0]["accept-encoding"] == "identity"


async def test_a_download_nobody_waits_for_stops(store, server):
    begun = asyncio.Event()
    server.content = b"x" * 50_000_000
    fetching = asyncio.create_task(store.fetch(server.url, on_progress=lambda *_: begun.set()))
    await begun.wait()
    fetching.cancel()
    with pytest.raises(asyncio.CancelledError):
        await fetching
    store.close()
    (partial,) = store.downloads.glob("*.partial")
    assert partial.stat().st_size < len(server.content)


async def test_a_silent_server_does_not_hold_up_an_exit(store, server):
    begun = asyncio.Event()
    server.stall_after = 1_000_000
    fetching = asyncio.create_task(store.fetch(server.url, on_progress=lambda *_: begun.set()))
    await begun.wait()
    fetching.cancel()
    with pytest.raises(asyncio.CancelledError):
        await fetching
    async with asyncio.timeout(5):
        await asyncio.to_thread(store.close)


def make_certificate(tmp_path):
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    (tmp_path / "ca.pem").write_bytes(certificate.public_bytes(pem))
    (tmp_path / "key.pem").write_bytes(
        key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "ca.pem", tmp_path / "key.pem")
    return context


FETCH = """
import asyncio, sys
from pathlib import Path
from flambeau_runtime.archive import attempts
from flambeau_runtime.archive.store import Store
attempts.PAUSES_S = ()
try:
    print(asyncio.run(Store(Path(sys.argv[2])).fetch(sys.argv[1])).stat().st_size)
except Exception as error:
    print(type(error).__name__, error)
"""


def fetch_in_a_process(url, tmp_path, **environment):
    command = [sys.executable, "-c", FETCH, url, str(tmp_path / "root")]
    done = subprocess.run(
        command, env=environment, check=True, capture_output=True, text=True, timeout=30
    )
    return done.stdout.strip()


@pytest.mark.process
@pytest.mark.timeout(60)
def test_a_private_certificate_authority_comes_from_the_environment(content, tmp_path):
    with serving(content, make_certificate(tmp_path)) as server:
        url = f"https://localhost:{server.server_port}/x.mar"
        assert "CERTIFICATE_VERIFY_FAILED" in fetch_in_a_process(url, tmp_path)
        trusted = fetch_in_a_process(url, tmp_path, SSL_CERT_FILE=str(tmp_path / "ca.pem"))
        assert trusted == str(len(content))


@pytest.mark.process
@pytest.mark.timeout(60)
def test_a_proxy_comes_from_the_environment(content, tmp_path):
    with serving(content) as proxy:
        through = f"http://127.0.0.1:{proxy.server_port}"
        url = "http://models.invalid/x.mar"
        assert fetch_in_a_process(url, tmp_path, http_proxy=through) == str(len(content))
        assert proxy.asked[0]["host"] == "models.invalid"
