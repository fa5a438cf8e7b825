"""Nothing is fetched from where nobody may point, and no secret comes to where handlers run."""

import pytest

from flambeau_runtime.archive.fetch.credentials import Secrets, is_hidden
from flambeau_runtime.archive.sources import presentable, refuse_link_local, resolve
from flambeau_runtime.archive.store import Store
from flambeau_runtime.errors import ArchiveInvalid, SourceNotFound, SourceUnavailable
from tests.compat.server import serving as running, until, write_archive
from tests.dataplane.archive_server import serving
from tests.dataplane.archives import make_directory, make_mar, zip_link

pytestmark = [pytest.mark.process, pytest.mark.timeout(90)]

SECRETS = {
    "AWS_ACCESS_KEY_ID": "AKIA-of-the-tests",
    "AWS_SECRET_ACCESS_KEY": "aws-secret-of-the-tests",
    "AWS_SESSION_TOKEN": "aws-session-of-the-tests",
    "GOOGLE_APPLICATION_CREDENTIALS": "/where/the/secret-of-google-is",
    "AZURE_STORAGE_ACCOUNT_KEY": "azure-secret-of-the-tests",
    "HF_TOKEN": "hf-secret-of-the-tests",
    "REGISTRY_AUTH_FILE": "/where/the/secret-of-registries-is",
}
TELLS_ITS_ENVIRONMENT = """
import os, subprocess
from pathlib import Path

def handle(data, context):
    if data is None:
        return None
    seen = {
        "os": dict(os.environ),
        "kernel": Path("/proc/self/environ").read_text(),
        "child": subprocess.run(["env"], capture_output=True, text=True, check=True).stdout,
    }
    return [seen for _ in data]
"""


@pytest.fixture(params=["forked", "executed"])
def telling(request, tmp_path, monkeypatch):
    """A runtime with secrets in its environment, and a handler that tells all it sees."""
    for name, value in SECRETS.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("OPEN_TO_ALL", "nothing-secret")
    write_archive(tmp_path / "store", handler=TELLS_ITS_ENVIRONMENT, config="minWorkers: 1\n")
    # A device, if only declared, has every worker executed.
    flags = ["--models", "echo-1.0.mar"]
    if request.param == "executed":
        monkeypatch.setenv("FLAMBEAU_DEVICES", "1")
    with running(tmp_path, *flags) as server:
        until(lambda: server.predict("echo").status == 200)
        yield server


def test_no_credentials_of_the_runtime_reach_a_worker(telling):
    told = telling.predict("echo").body.decode()
    assert "nothing-secret" in told, "it has told its environment"
    assert [value for value in SECRETS.values() if value in told] == []
    assert [name for name in SECRETS if name in told] == []


def test_no_secret_is_told_to_who_may_look(tmp_path, monkeypatch):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", SECRETS["AWS_ACCESS_KEY_ID"])
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRETS["AWS_SECRET_ACCESS_KEY"])
    secret = SECRETS["AWS_SECRET_ACCESS_KEY"]
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:9/{secret}")
    make_mar(tmp_path / "x.mar")
    with serving((tmp_path / "x.mar").read_bytes()) as web, running(tmp_path) as server:
        refused = server.manage("POST", "/models?url=s3://models/x.mar")
        assert refused.status == 400
        url = web.url.replace("http://", "http://me:pass-of-the-tests@")
        assert server.manage("POST", f"/models?url={url}%3Ftoken=token-of-the-tests").status == 200
        told = [server.manage("GET", path) for path in ("/models/echo", "/models", "/state")]
        seen = "".join(each.body.decode() for each in (refused, *told))
        assert "127.0.0.1" in seen
        assert "x.mar" in seen
        said = server.output.read_text()
    for each in (secret, "pass-of-the-tests", "token-of-the-tests"):
        assert each not in seen
    assert secret not in said


@pytest.mark.parametrize(
    ("uri", "shown"),
    [
        ("https://h/x.mar?raw=true", "https://h/x.mar?raw=true"),
        ("https://me:word@h/x.mar", "https://h/x.mar"),
        (
            "https://h/x.mar?a=1&X-Amz-Signature=abc",
            "https://h/x.mar?a=1&X-Amz-Signature=%2A%2A%2A",
        ),
        ("https://h/x.mar?sig=abc&b=2", "https://h/x.mar?sig=%2A%2A%2A&b=2"),
        ("echo.mar", "echo.mar"),
        ("file:///a%20b/x.mar", "file:///a%20b/x.mar"),
        ("s3://bucket/a?b#c.mar", "s3://bucket/a?b#c.mar"),
    ],
)
def test_a_source_is_shown_as_it_was_given_but_for_its_secrets(uri, shown):
    assert presentable(uri) == shown


@pytest.mark.parametrize(
    "host",
    [
        "169.254.169.254",
        "169.254.170.23",
        "::ffff:169.254.169.254",
        "64:ff9b::a9fe:a9fe",
        "2002:a9fe:a9fe::1",
        "::169.254.169.254",
        "fe80::1%eth0",
        "fd00:ec2::254",
        "100.100.100.200",
        "168.63.129.16",
        "metadata.google.internal",
        "METADATA.google.internal.",
    ],
)
def test_where_clouds_keep_credentials_nothing_is_fetched(host):
    with pytest.raises(SourceNotFound, match="archives are not fetched from there"):
        refuse_link_local(host)


@pytest.mark.parametrize("host", ["10.0.0.1", "127.0.0.1", "::1", "fd00::1", "models.example"])
def test_other_addresses_are_as_good_as_any(host):
    refuse_link_local(host)


SCHEMES = ("s3", "gs", "az", "hf", "oci")


@pytest.mark.parametrize("scheme", SCHEMES)
def test_what_is_allowed_is_asked_of_every_scheme(scheme):
    uri = f"{scheme}://place/thing/x.mar"
    resolve(uri, None, (f"{scheme}://place/.*",))
    with pytest.raises(SourceNotFound, match=f"^Given URL {uri} does not match any allowed URL"):
        resolve(uri, None, ("https://.*", f"{scheme}://other/.*"))


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize(
    ("rest", "why"),
    [
        pytest.param("place/a/../x.mar", "Relative path is not allowed", id="a way up"),
        pytest.param("place/a/%2e%2e/x.mar", "Relative path is not allowed", id="in disguise"),
        pytest.param("/x.mar", "no host", id="nowhere"),
        pytest.param("me:word@place/x.mar", "would be told to everybody", id="with a password"),
        pytest.param("169.254.169.254/x.mar", "link-local", id="the metadata service"),
    ],
)
def test_other_places_are_refused_of_every_scheme(scheme, rest, why):
    with pytest.raises(SourceNotFound, match=why) as refused:
        resolve(f"{scheme}://{rest}", None, (".*",))
    assert "word" not in str(refused.value)


@pytest.fixture
def places(tmp_path):
    """A model store and a folder beside it, each with an archive."""
    make_mar(tmp_path / "models" / "inside.mar")
    make_mar(tmp_path / "secret" / "outside.mar")
    make_directory(tmp_path / "secret" / "bare")
    return tmp_path


@pytest.mark.parametrize("kind", ["outside.mar", "bare"])
def test_a_link_out_of_the_model_store_leads_nowhere_that_is_not_allowed(places, kind):
    (places / "models" / "link").symlink_to(places / "secret" / kind)
    with pytest.raises(SourceNotFound, match=r"Given URL file://.*/secret/.* does not match"):
        resolve("link", places / "models", (r"https://models\.corp/.*",))
    assert resolve("link", places / "models", ("file://.*",)).path == places / "models" / "link"


def test_a_link_inside_the_model_store_is_as_good_as_a_file(places):
    (places / "models" / "link").symlink_to("inside.mar")
    assert resolve("link", places / "models", ()).path.name == "link"


def test_a_link_out_of_an_allowed_folder_is_refused(places):
    (places / "models" / "link").symlink_to(places / "secret")
    allowed = (f"file://{places}/models/.*",)
    resolve(f"file://{places}/models/inside.mar", None, allowed)
    for uri in (f"file://{places}/models/link/outside.mar", f"{places}/models/link/bare"):
        with pytest.raises(SourceNotFound, match="secret"):
            resolve(uri, None, allowed)


async def test_an_archive_with_a_link_is_refused_as_a_whole(tmp_path):
    make_mar(tmp_path / "models" / "evil.mar", {zip_link("handler.py"): "/etc/passwd"})
    store = Store(tmp_path / "root", tmp_path / "models")
    with pytest.raises(ArchiveInvalid, match="neither a file nor a directory"):
        await store.open(await store.fetch("evil.mar"))
    store.close()


def test_a_name_that_resolves_to_where_secrets_are_is_refused(tmp_path, monkeypatch):
    (tmp_path / "path").mkdir()
    (tmp_path / "path" / "sitecustomize.py").write_text(RESOLVES_TO_METADATA)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "path"))
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://models.example")
    with pytest.raises(SourceNotFound, match=r"169\.254\.169\.254 is a link-local address"):
        fetch_alone(tmp_path, "s3://models/x.mar")
    monkeypatch.setenv("HF_ENDPOINT", "http://models.example")
    with pytest.raises((SourceNotFound, SourceUnavailable), match="link-local"):
        fetch_alone(tmp_path, "hf://org/repo/x.mar")


RESOLVES_TO_METADATA = """
import socket

def getaddrinfo(host, port, *args, **kwargs):
    return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("169.254.169.254", port))]

socket.getaddrinfo = getaddrinfo
"""


def fetch_alone(tmp_path, uri):
    import asyncio  # noqa: PLC0415

    async def fetch():
        store = Store(tmp_path / "root")
        try:
            await store.fetch(uri)
        finally:
            await asyncio.to_thread(store.close)

    asyncio.run(fetch())


def test_what_is_hidden_is_what_opens_sources():
    assert all(is_hidden(name) for name in SECRETS)
    assert not [
        each for each in ("PATH", "OMP_NUM_THREADS", "MY_AWS_KEY", "HF_HOME") if is_hidden(each)
    ]


def test_secrets_do_not_show_themselves():
    secrets = Secrets.of({"AWS_SECRET_ACCESS_KEY": "a-long-secret", "AWS_REGION": "eu-west-1"})
    assert "a-long-secret" not in repr(secrets)
    assert secrets.hide_in("a-long-secret in eu-west-1") == "*** in eu-west-1"
