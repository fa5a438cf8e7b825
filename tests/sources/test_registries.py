"""Archives in registries, and in some that lie; `e2e/test_registry.py` asks a real one."""

import json

import pytest

from flambeau_runtime.archive.fetch.registry import read_reference
from flambeau_runtime.errors import (
    ArchiveInvalid,
    CredentialsMissing,
    DigestMismatch,
    SourceNotFound,
)
from tests.sources.archives import WRONG, digest_of
from tests.sources.stand_in_stores import Registry, basic, standing_in

pytestmark = [pytest.mark.process, pytest.mark.timeout(90)]

TITLE = "org.opencontainers.image.title"


def layer(content, title=None, kind="application/octet-stream"):
    found = {"digest": digest_of(content), "size": len(content), "mediaType": kind}
    return {**found, "annotations": {TITLE: title}} if title else found


def manifest(*layers):
    kind = "application/vnd.oci.image.manifest.v1+json"
    return json.dumps({"schemaVersion": 2, "mediaType": kind, "layers": layers}).encode()


@pytest.fixture
def registry(archive):
    with standing_in(Registry, {digest_of(archive): archive}) as server:
        server.uri = f"oci://127.0.0.1:{server.server_port}/team/model"

        def push(text, tag="v1"):
            server.objects[tag] = server.objects[digest_of(text)] = text
            return f"{server.uri}:{tag}"

        server.push = push
        yield server


async def test_the_only_layer_is_the_archive(store, registry, archive):
    told = []
    path = await store.fetch(
        registry.push(manifest(layer(archive))), on_progress=lambda *now: told.append(now)
    )
    assert (await store.open(path)).digest == digest_of(archive)
    assert told[-1] == (len(archive), len(archive))


async def test_a_manifest_may_be_pinned(store, registry, archive):
    text = manifest(layer(archive))
    registry.push(text)
    path = await store.fetch(f"{registry.uri}@{digest_of(text)}", digest_of(archive))
    assert path.read_bytes() == archive


async def test_the_layer_named_like_an_archive_is_taken_of_several(store, registry, archive):
    layers = layer(b"readme", "README.md"), layer(archive, "classifier.mar")
    assert (await store.fetch(registry.push(manifest(*layers)))).read_bytes() == archive


async def test_of_an_index_the_manifest_for_this_machine_is_taken(store, registry, archive):
    texts = {name: manifest(layer(archive, f"{name}.mar")) for name in ("amd64", "arm64")}
    for text in texts.values():
        registry.push(text, "hidden")
    entries = [
        {"digest": digest_of(text), "platform": {"os": "linux", "architecture": name}}
        for name, text in texts.items()
    ]
    entries.append({"digest": WRONG, "platform": {"os": "unknown", "architecture": "unknown"}})
    index = {"mediaType": "application/vnd.oci.image.index.v1+json", "manifests": entries}
    path = await store.fetch(registry.push(json.dumps(index).encode()))
    assert path.read_bytes() == archive


async def test_a_download_that_is_cut_goes_on_where_it_stopped(store, registry, archive):
    registry.cut_after = {0: 9_000_000}
    path = await store.fetch(registry.push(manifest(layer(archive))), digest_of(archive))
    assert path.read_bytes() == archive
    ranges = [each["range"] for each in registry.gets_of_content() if "range" in each]
    (start,) = [int(each.removeprefix("bytes=").rstrip("-")) for each in ranges]
    assert 0 < start <= 9_000_000


async def test_a_token_is_fetched_for_each_thing_that_is_asked_for(store, registry, archive):
    registry.realm = f"{registry.url}/token"
    await store.fetch(registry.push(manifest(layer(archive))))
    opened = [each.get("authorization") for each in registry.gets_of_content()]
    assert opened == ["Bearer for repository:r:pull"] * 2


async def test_a_docker_config_says_who_one_is(store, registry, archive, secrets):
    registry.realm, registry.login = f"{registry.url}/token", basic("me", "pass-of-the-tests")
    uri = registry.push(manifest(layer(archive)))
    with pytest.raises(SourceNotFound, match="401"):
        await store.fetch(uri)
    host = f"127.0.0.1:{registry.server_port}"
    auth = registry.login.removeprefix("Basic ")
    secrets("pull", {".dockerconfigjson": json.dumps({"auths": {host: {"auth": auth}}})})
    assert (await store.fetch(uri, credentials="pull")).read_bytes() == archive


async def test_a_docker_config_that_is_none_is_named(store, registry, secrets):
    secrets("pull", {".dockerconfigjson": "{}"})
    with pytest.raises(CredentialsMissing, match=r"must be a \.dockerconfigjson, as"):
        await store.fetch(f"{registry.uri}:v1", credentials="pull")


@pytest.mark.parametrize(
    ("realm", "why"),
    [
        pytest.param("http://169.254.169.254/token", "link-local", id="the metadata service"),
        pytest.param("http://[fd00:ec2::254]/token", "hands out credentials", id="over IPv6"),
    ],
)
async def test_a_registry_may_not_send_for_a_token_to_where_secrets_are(
    store, registry, archive, realm, why
):
    registry.realm = realm
    with pytest.raises(SourceNotFound, match=why):
        await store.fetch(registry.push(manifest(layer(archive))))


async def test_a_registry_that_redirects_to_where_secrets_are_is_refused(store, registry):
    registry.redirect = "http://169.254.169.254/latest"
    with pytest.raises(SourceNotFound, match="link-local"):
        await store.fetch(f"{registry.uri}:v1")


async def test_a_blob_with_another_content_is_not_kept(store, registry, archive):
    other = {**layer(archive), "digest": WRONG}
    registry.objects[WRONG] = archive
    with pytest.raises(DigestMismatch, match=f"wanted digest {WRONG}, found"):
        await store.fetch(registry.push(manifest(other)))
    assert not list(store.downloads.glob("*.archive"))


async def test_a_manifest_with_another_content_is_refused(store, registry, archive):
    registry.objects[WRONG] = manifest(layer(archive))
    with pytest.raises(DigestMismatch, match=f"wanted digest {WRONG}, found"):
        await store.fetch(f"{registry.uri}@{WRONG}")


async def test_another_digest_is_known_before_a_byte_has_come(store, registry, archive):
    with pytest.raises(DigestMismatch, match=f"wanted digest {WRONG}, found {digest_of(archive)}"):
        await store.fetch(registry.push(manifest(layer(archive))), WRONG)
    assert len(registry.gets_of_content()) == 2, "nothing but the manifest"


@pytest.mark.parametrize(
    ("text", "why"),
    [
        pytest.param(manifest(), "has 0 layers", id="nothing in it"),
        pytest.param(
            manifest(layer(b"1"), layer(b"2")), "push the archive as the only", id="two layers"
        ),
        pytest.param(b"no json", "sent no manifest", id="no manifest"),
        pytest.param(
            manifest({"digest": "md5:1", "size": 1}), "no sha256 digest", id="another digest"
        ),
        pytest.param(
            manifest(layer(b"1", kind="application/vnd.oci.image.layer.v1.tar+zstd")),
            "cannot be opened: push it as gzip",
            id="zstd",
        ),
        pytest.param(
            manifest({**layer(b"1"), "size": 1 << 60}), "at most", id="larger than any may be"
        ),
    ],
)
async def test_what_is_no_archive_is_refused_in_words(store, registry, text, why):
    with pytest.raises(ArchiveInvalid, match=why):
        await store.fetch(registry.push(text))


@pytest.mark.parametrize(
    ("uri", "url"),
    [
        ("oci://ghcr.io/org/m:v1", "https://ghcr.io/v2/org/m/manifests/v1"),
        ("oci://ghcr.io/org/m", "https://ghcr.io/v2/org/m/manifests/latest"),
        (
            f"oci://r.example:5000/a/b/c:v@{WRONG}",
            f"https://r.example:5000/v2/a/b/c/manifests/{WRONG}",
        ),
        ("oci://docker.io/org/m:1", "https://registry-1.docker.io/v2/org/m/manifests/1"),
        ("oci://localhost:5000/m:1", "http://localhost:5000/v2/m/manifests/1"),
        ("oci://localhost.evil/m:1", "https://localhost.evil/v2/m/manifests/1"),
    ],
)
def test_a_reference_is_read_as_everybody_reads_it(uri, url):
    reference = read_reference(uri)
    assert reference.url("manifests", reference.wanted) == url


@pytest.mark.parametrize(
    "uri", ["oci://host", "oci://host/", "oci://h/UPPER:1", "oci://h/m@sha256:1"]
)
def test_a_reference_that_is_none_is_refused(uri):
    with pytest.raises(SourceNotFound, match="write oci://REGISTRY/REPOSITORY:TAG"):
        read_reference(uri)
