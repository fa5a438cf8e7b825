"""Archives in a real registry: anonymous, with a password, with tokens, and cut half-way."""

import asyncio
import base64
import contextlib
import hashlib
import http.server
import json
import os
import socket
import subprocess
import threading
from datetime import UTC, datetime, timedelta
from urllib.parse import parse_qs, urlsplit

import jwt
import pytest
import requests
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from tests.compat.server import until
from tests.dataplane.archives import files, make_mar
from tests.sources.cutting_relay import cutting

from e2e.cluster.registry import registry as built_registry
from flambeau_runtime.archive.store import Around, Store
from flambeau_runtime.errors import DigestMismatch, SourceNotFound

# The first run on a machine builds the registry.
pytestmark = pytest.mark.timeout(900)

USER, PASSWORD = "reader", "word-of-the-tests"
# What `htpasswd -B` makes of them.
HTPASSWD = f"{USER}:$2b$05$qhqDhfsGapikLtot51CF1uOelLQHVCVOilB1YhOTLjtNoFM33YCUa\n"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
WRONG = f"sha256:{'0' * 64}"


def digest_of(content):
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    path = tmp_path_factory.mktemp("archive") / "x.mar"
    return make_mar(path, {**files(), "noise": os.urandom(12_000_000)}).read_bytes()


@contextlib.contextmanager
def running(folder, auth=None):
    """Run a registry; return its port."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    config = {
        "version": 0.1,
        "log": {"level": "error"},
        "storage": {"filesystem": {"rootdirectory": str(folder / "blobs")}},
        "http": {"addr": f"127.0.0.1:{port}", "secret": "of-the-tests"},
    }
    path = folder / "config.json"
    path.write_text(json.dumps(config | ({"auth": auth} if auth else {})))  # JSON is YAML
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen([built_registry(print), "serve", path], stdout=log, stderr=log)
        try:
            until(lambda: is_open(port) or process.poll() is not None)
            assert process.poll() is None, (folder / "log").read_text()
            yield port
        finally:
            process.kill()
            process.wait()


def is_open(port):
    with socket.socket() as asking:
        return asking.connect_ex(("127.0.0.1", port)) == 0


def push(port, content, tag="v1", **headers):
    """Push an artifact with one layer, as oras does; return the digest of its manifest."""
    base = f"http://127.0.0.1:{port}/v2/team/model"
    layers = []
    for blob in (b"{}", content):
        begun = requests.post(f"{base}/blobs/uploads/", headers=headers, timeout=30)
        begun.raise_for_status()
        url, digest = begun.headers["Location"], digest_of(blob)
        joined = f"{url}{'&' if '?' in url else '?'}digest={digest}"
        requests.put(joined, data=blob, headers=headers, timeout=30).raise_for_status()
        layers.append({"mediaType": "application/x-mar", "digest": digest, "size": len(blob)})
    config = {**layers[0], "mediaType": "application/vnd.oci.empty.v1+json"}
    manifest = {"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": layers[1:]}
    text = json.dumps(manifest).encode()
    answer = requests.put(
        f"{base}/manifests/{tag}",
        data=text,
        headers={"Content-Type": MANIFEST, **headers},
        timeout=30,
    )
    answer.raise_for_status()
    return digest_of(text)


async def fetch(tmp_path, uri, digest=None, credentials=None):
    """Fetch in a store of its own."""
    store = Store(tmp_path / "root", around=Around(credentials=tmp_path / "credentials"))
    try:
        return (await store.fetch(uri, digest, credentials=credentials)).read_bytes()
    finally:
        await asyncio.to_thread(store.close)


def secret(tmp_path, port, password=PASSWORD):
    """Write a Secret as `kubectl create secret docker-registry` makes it."""
    (tmp_path / "credentials" / "pull").mkdir(parents=True)
    auth = base64.b64encode(f"{USER}:{password}".encode()).decode()
    content = {"auths": {f"127.0.0.1:{port}": {"auth": auth}}}
    (tmp_path / "credentials" / "pull" / ".dockerconfigjson").write_text(json.dumps(content))


@pytest.fixture(scope="module")
def registry(tmp_path_factory, archive):
    with running(tmp_path_factory.mktemp("registry")) as port:
        yield port, push(port, archive)


async def test_an_archive_is_pulled_by_tag_and_by_digest(registry, archive, tmp_path):
    port, manifest = registry
    name = f"oci://127.0.0.1:{port}/team/model"
    assert await fetch(tmp_path, f"{name}:v1") == archive
    assert await fetch(tmp_path, f"{name}@{manifest}", digest_of(archive)) == archive
    with pytest.raises(SourceNotFound, match="404"):
        await fetch(tmp_path, f"{name}:v2")
    with pytest.raises(DigestMismatch):
        await fetch(tmp_path, f"{name}:v1", WRONG)


async def test_a_blob_that_is_cut_goes_on_where_it_stopped(registry, archive, tmp_path):
    port, _ = registry
    with cutting(port) as relay:
        relay.cut_whole = b"/blobs/"
        uri = f"oci://127.0.0.1:{relay.port}/team/model:v1"
        assert await fetch(tmp_path, uri, digest_of(archive)) == archive
    (start,) = relay.ranges
    assert 0 < start < len(archive)


async def test_a_password_opens_a_registry(archive, tmp_path):
    (tmp_path / "htpasswd").write_text(HTPASSWD)
    auth = {"htpasswd": {"realm": "tests", "path": str(tmp_path / "htpasswd")}}
    word = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
    with running(tmp_path, auth) as port:
        push(port, archive, Authorization=f"Basic {word}")
        uri = f"oci://127.0.0.1:{port}/team/model:v1"
        with pytest.raises(SourceNotFound, match="401"):
            await fetch(tmp_path, uri)
        secret(tmp_path, port)
        assert await fetch(tmp_path, uri, credentials="pull") == archive


class Tokens(http.server.BaseHTTPRequestHandler):
    """Gives out tokens that the registry believes, to who has the password."""

    def do_GET(self):
        word = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
        if self.headers.get("Authorization") != f"Basic {word}":
            self.send_response(401)
            self.end_headers()
            return
        asked = {key: each[0] for key, each in parse_qs(urlsplit(self.path).query).items()}
        text = json.dumps({"token": self.server.token(asked["scope"])}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *args):
        """Say nothing."""


@contextlib.contextmanager
def giving_tokens(folder):
    """Run a token server; it has the certificate of its key written down."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "tokens")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    (folder / "tokens.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    chain = [base64.b64encode(certificate.public_bytes(serialization.Encoding.DER)).decode()]

    def token(scope, actions=("pull",)):
        kind, name, _ = scope.split(":")
        claims = {
            "iss": "tests",
            "aud": "registry",
            "sub": USER,
            "iat": now,
            "nbf": now - timedelta(minutes=1),
            "exp": now + timedelta(minutes=5),
            "jti": "1",
            "access": [{"type": kind, "name": name, "actions": list(actions)}],
        }
        return jwt.encode(claims, key, algorithm="ES256", headers={"x5c": chain})

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Tokens)
    server.token = token
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


async def test_a_token_opens_a_registry(archive, tmp_path):
    with giving_tokens(tmp_path) as tokens:
        auth = {
            "token": {
                "realm": f"http://127.0.0.1:{tokens.server_port}/token",
                "service": "registry",
                "issuer": "tests",
                "rootcertbundle": str(tmp_path / "tokens.pem"),
            }
        }
        with running(tmp_path, auth) as port:
            may_push = tokens.token("repository:team/model:x", ("pull", "push"))
            push(port, archive, Authorization=f"Bearer {may_push}")
            uri = f"oci://127.0.0.1:{port}/team/model:v1"
            with pytest.raises(SourceNotFound, match="401"):
                await fetch(tmp_path, uri)
            secret(tmp_path, port)
            assert await fetch(tmp_path, uri, credentials="pull") == archive
