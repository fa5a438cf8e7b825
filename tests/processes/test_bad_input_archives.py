"""Archives that are broken or up to something: refused in words, and nothing outside is touched."""

import json
import os
import tarfile
import zipfile

import pytest

from tests.compat.server import serving, until, write_archive
from tests.dataplane.archives import files, make_mar, make_tgz, manifest, tar_member, zip_link

pytestmark = [pytest.mark.process, pytest.mark.timeout(60)]


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    folder = tmp_path_factory.mktemp("archives")
    write_archive(folder / "store", "healthy", config="minWorkers: 1\nmaxWorkers: 1\n")
    with serving(folder, "--models", "healthy-1.0.mar") as running:
        until(lambda: running.predict("healthy").status == 200)
        yield running


@pytest.fixture
def store(server):
    return server.output.parent / "store"


@pytest.fixture(autouse=True)
def nothing_escapes(server):
    yield
    assert server.predict("healthy").status == 200
    assert list(server.output.parent.rglob("evil*")) == []


def declared(text):
    return {"handler.py": "", "MAR-INF/MANIFEST.json": text}


def zeros(path):
    """Write a zip of a few KiB that unpacks to more than any archive may."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in files().items():
            archive.writestr(name, text)
        with archive.open("zeros", "w", force_zip64=True) as entry:
            for _ in range(512):
                entry.write(bytes(1 << 20))


def cut(path):
    make_mar(path)
    path.write_bytes(path.read_bytes()[:-40])


def entries(named):
    return lambda path: make_mar(path, named)


CONFIGURED = manifest(configFile="model-config.yaml")
BAD = [
    pytest.param(entries({**files(), "../evil.py": "x"}), "points outside", id="a way up"),
    pytest.param(entries({**files(), "/evil": "x"}), "absolute path", id="an absolute path"),
    pytest.param(entries({**files(), "..\\evil": "x"}), "backslash", id="a way up on Windows"),
    pytest.param(entries({**files(), zip_link("l"): "/etc"}), "neither a file", id="a link"),
    pytest.param(zeros, "larger than|expands|compress|bytes", id="a bomb"),
    pytest.param(cut, "cut short", id="one that is cut"),
    pytest.param(lambda path: path.write_bytes(b""), "not a complete", id="nothing"),
    pytest.param(os.mkfifo, "neither a file", id="a pipe"),
    pytest.param(entries({"handler.py": ""}), "no MAR-INF/MANIFEST.json", id="no manifest"),
    pytest.param(entries(declared("{")), "is not JSON", id="half a manifest"),
    pytest.param(entries(declared("[" * 100_000)), "is not JSON", id="a manifest without a floor"),
    pytest.param(entries(declared("[]")), "must be an object", id="a list for a manifest"),
    pytest.param(entries(declared('{"model": 5}')), "must be an object", id="a number for a model"),
    pytest.param(
        entries(files({"model": {"modelName": ["a"], "handler": 7}})), "modelName must be",
        id="fields of other types",
    ),
    pytest.param(entries(files(manifest(handler="../h.py"))), "outside", id="a handler elsewhere"),
    pytest.param(
        entries(files(manifest(serializedFile="../../x.pt"))), "outside", id="weights elsewhere"
    ),
    pytest.param(entries(files(manifest(handler="no.py"))), "no.py is not in", id="no handler"),
    pytest.param(entries(files(CONFIGURED)), "is not in the archive", id="no model-config.yaml"),
    pytest.param(
        entries({**files(CONFIGURED), "model-config.yaml": "a: [1"}), "line 1", id="bad YAML"
    ),
    pytest.param(
        entries({**files(CONFIGURED), "model-config.yaml": "!!python/object/apply:os.abort []"}),
        "constructor", id="YAML that runs code",
    ),
    pytest.param(
        entries({**files(CONFIGURED), "model-config.yaml": "- a\n- b\n"}), "mapping", id="a list"
    ),
]  # fmt: skip


@pytest.mark.parametrize(("make", "says"), BAD)
def test_a_bad_archive_is_refused_in_words(server, store, make, says):
    path = store / "bad.mar"
    path.unlink(missing_ok=True)
    make(path)
    answer = server.manage("POST", "/models?url=bad.mar&initial_workers=1")
    assert (answer.status, answer.json["type"]) == (400, "InvalidModelException"), answer.json
    assert any(word in answer.json["message"] for word in says.split("|")), answer.json["message"]


@pytest.mark.parametrize(
    "kind", [tarfile.SYMTYPE, tarfile.FIFOTYPE], ids=["a symbolic link", "a pipe"]
)
def test_a_tar_holds_no(server, store, kind):
    make_tgz(store / "bad.tar.gz", {**files(), tar_member("echo/l", kind): ""})
    answer = server.manage("POST", "/models?url=bad.tar.gz&initial_workers=1")
    assert (answer.status, "neither a file" in answer.json["message"]) == (400, True)


def test_numbers_beyond_measure_in_the_configuration_are_passed_over(server, store):
    config = "batchSize: .inf\nminWorkers: .nan\nmaxBatchDelay: .inf\njobQueueSize: -3\n"
    url = write_archive(store, "odd", config=config + "responseTimeout: 1.0e+300\n")
    assert server.manage("POST", f"/models?url={url}&initial_workers=1").status == 200
    assert server.predict("odd").status == 200


def test_no_archive_may_ask_for_more_workers_than_a_machine_has(server, store):
    url = write_archive(store, "crowd", config="minWorkers: 100000\nmaxWorkers: 100000\n")
    answer = server.manage("POST", f"/models?url={url}")
    assert (answer.status, "at most 1024" in answer.json["message"]) == (400, True)


def test_a_model_store_that_cannot_be_written_is_good_enough(tmp_path):
    store = tmp_path / "store"
    entries(files())(store / "echo.mar")
    bare = store / "bare"
    (bare / "MAR-INF").mkdir(parents=True)
    (bare / "MAR-INF" / "MANIFEST.json").write_text(json.dumps(manifest(modelName="bare")))
    (bare / "handler.py").write_text(files()["handler.py"])
    for folder in (bare / "MAR-INF", bare, store):
        folder.chmod(0o555)
    try:
        with serving(tmp_path) as server:
            for url in ("echo.mar", "bare"):
                call = f"/models?url={url}&initial_workers=1"
                assert server.manage("POST", call).status == 200
    finally:
        store.chmod(0o755)
        bare.chmod(0o755)
        (bare / "MAR-INF").chmod(0o755)
