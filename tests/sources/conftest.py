"""What tests of sources share: an archive worth cutting, and an environment that opens nothing."""

import os
import random

import pytest

from flambeau_runtime.archive import attempts
from flambeau_runtime.archive.fetch import credentials
from flambeau_runtime.archive.store import Around, Store
from tests.dataplane.archives import files, make_mar


@pytest.fixture(scope="session")
def archive(tmp_path_factory):
    """A good archive of 20 MB: five parts."""
    noise = random.Random(1).randbytes(20_000_000)  # noqa: S311  bytes that do not compress
    path = tmp_path_factory.mktemp("archive") / "x.mar"
    return make_mar(path, {**files(), "noise": noise}).read_bytes()


@pytest.fixture(autouse=True)
def nothing_is_open(monkeypatch):
    """Leave nothing of this machine's own credentials and endpoints."""
    for name in os.environ:
        if credentials.is_hidden(name) or name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)


@pytest.fixture
def secrets(tmp_path):
    """The folder where a pod has its Secrets; call it to make one."""

    def make(secret, entries):
        folder = tmp_path / "credentials" / secret
        folder.mkdir(parents=True)
        for key, value in entries.items():
            (folder / key).write_text(value)
        return folder

    return make


@pytest.fixture
def store(tmp_path, monkeypatch):
    monkeypatch.setattr(attempts, "PAUSES_S", (0.01, 0.01))
    store = Store(tmp_path / "root", around=Around(credentials=tmp_path / "credentials"))
    yield store
    store.close()
