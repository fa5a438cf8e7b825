"""Several runtimes with one cache: what has a digest comes once, whoever dies meanwhile."""

import asyncio
import os
import signal
import subprocess
import sys

import pytest

from flambeau_runtime.archive.store import Around, Store
from tests.compat.server import call, serving as running, until, write_archive
from tests.dataplane.archive_server import serving
from tests.sources.archives import digest_of

pytestmark = [pytest.mark.process, pytest.mark.timeout(120)]

FETCH = """
import asyncio, sys
from pathlib import Path
from flambeau_runtime.archive.store import Around, Store

async def main(root, uri, digest):
    store = Store(Path(root), around=Around(shared=True))
    path = await store.fetch(uri, digest, lambda *_: print("begun", flush=True))
    package = await store.open(path, digest)
    print(package.directory, flush=True)

asyncio.run(main(*sys.argv[1:]))
"""


def fetching(root, uri, digest):
    command = [sys.executable, "-c", FETCH, str(root), uri, digest]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def test_two_processes_fetch_what_both_want_once(archive, tmp_path):
    with serving(archive) as server:
        wanted = tmp_path / "root", server.url, digest_of(archive)
        both = [fetching(*wanted) for _ in range(2)]
        said = [each.communicate(timeout=60)[0].splitlines()[-1] for each in both]
    assert said[0] == said[1] == str(tmp_path / "root" / "packages" / digest_of(archive)[7:])
    assert len(server.asked) == 1
    assert not list((tmp_path / "root" / "downloads").iterdir()), "nothing is left but the package"


def test_two_addresses_of_one_content_are_fetched_once(archive, tmp_path):
    with serving(archive) as server:
        for name in ("one", "two"):
            uri = server.url.replace("x.mar", f"{name}.mar")
            said = fetching(tmp_path / "root", uri, digest_of(archive)).communicate(timeout=60)[0]
            assert "packages" in said
    assert len(server.asked) == 1


def test_what_a_killed_process_has_begun_another_goes_on_with(archive, tmp_path):
    with serving(archive) as server:
        server.stall_after = 9_000_000
        wanted = tmp_path / "root", server.url, digest_of(archive)
        first = fetching(*wanted)
        with first:
            assert first.stdout.readline() == "begun\n"
            (partial,) = (tmp_path / "root" / "downloads").glob("*.partial")
            until(lambda: partial.stat().st_size > 5_000_000)
            second = fetching(*wanted)
            server.stall_after = None
            os.kill(first.pid, signal.SIGKILL)
        said = second.communicate(timeout=60)[0]
    assert str(tmp_path / "root" / "packages") in said
    start = int(server.asked[1]["range"].removeprefix("bytes=").rstrip("-"))
    assert 5_000_000 < start <= 9_000_000
    assert len(server.asked) == 2


async def test_a_shared_package_stays_for_the_others(archive, tmp_path):
    (tmp_path / "x.mar").write_bytes(archive)
    store = Store(tmp_path / "root", around=Around(shared=True))
    package = await store.open(await store.fetch(f"file://{tmp_path}/x.mar"))
    await store.remove(package)
    assert package.directory.is_dir()
    await asyncio.to_thread(store.close)


def test_two_runtimes_share_what_the_flag_and_the_variable_name(tmp_path, monkeypatch):
    write_archive(tmp_path / "web")
    content = (tmp_path / "web" / "echo-1.0.mar").read_bytes()
    cache = tmp_path / "cache"
    with serving(content) as server:
        with running(tmp_path / "one", "--cache", str(cache)) as one:
            register(one, server.url)
        monkeypatch.setenv("FLAMBEAU_CACHE", str(cache))
        with running(tmp_path / "two") as two:
            register(two, server.url)
            assert two.predict("echo").status == 200
    assert [each.name for each in (cache / "archives" / "packages").glob("*[0-9a-f]")] == [
        digest_of(content)[7:]
    ]
    assert not (tmp_path / "two" / "state" / "archives").exists()


def register(server, url):
    answer = call("POST", f"{server.management}/models?url={url}&initial_workers=1")
    assert answer.status == 200, answer.body
