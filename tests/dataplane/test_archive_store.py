"""From a source to a package: verified before it is opened, extracted once per digest."""

import asyncio
import hashlib
import multiprocessing
import threading
from dataclasses import replace

import pytest

from flambeau_runtime.archive import store as store_module
from flambeau_runtime.archive.owner import Owner
from flambeau_runtime.archive.store import Around, Store
from flambeau_runtime.errors import ArchiveInvalid, DigestMismatch, SourceNotFound
from tests.dataplane.archives import files, make_directory, make_mar, make_tgz, manifest

WRONG = f"sha256:{'0' * 64}"


def digest_of(path):
    return f"sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}"


@pytest.fixture
def models(tmp_path):
    make_mar(tmp_path / "models" / "echo.mar")
    return tmp_path / "models"


@pytest.fixture
def store(tmp_path, models):
    return Store(tmp_path / "root", models)


async def test_an_archive_of_the_model_store_becomes_a_package(store, models):
    package = await store.open(await store.fetch("echo.mar"))
    assert (package.model, package.version, package.handler) == ("echo", "1.0", "handler.py")
    assert package.digest == digest_of(models / "echo.mar")
    assert package.size_bytes == (models / "echo.mar").stat().st_size
    assert (package.directory / "handler.py").is_file()
    assert (models / "echo.mar").exists(), "what was local already stays"


@pytest.mark.parametrize("top", ["echo/", ""], ids=["with a top directory", "without one"])
async def test_a_gzipped_tar_is_as_good_as_a_zip(store, models, top):
    make_tgz(models / "echo.tar.gz", top=top)
    package = await store.open(await store.fetch("echo.tar.gz"))
    assert (package.directory / "handler.py").is_file()


async def test_a_bare_directory_is_used_where_it_is(store, models):
    make_directory(models / "bare", files(weights_txt="12345"))
    package = await store.open(await store.fetch("bare"))
    assert package.directory == models / "bare"
    assert package.digest is None
    assert package.size_bytes > 5
    await store.remove(package)
    assert (models / "bare").is_dir()


async def test_a_digest_says_which_content_is_meant(store, models):
    right = digest_of(models / "echo.mar")
    path = await store.fetch("echo.mar", right.upper().replace("SHA256", "sha256"))
    assert (await store.open(path, right)).digest == right
    with pytest.raises(DigestMismatch, match=f"wanted digest {WRONG}, found {right}"):
        await store.fetch("echo.mar", WRONG)


async def test_nothing_is_opened_when_the_digest_is_wrong(store, models, tmp_path):
    (models / "evil.mar").write_bytes(b"PK evil")
    with pytest.raises(DigestMismatch):
        await store.open(models / "evil.mar", WRONG)
    assert not (tmp_path / "root" / "packages").exists()


@pytest.mark.parametrize("digest", ["", "abc", "sha256:abc", "md5:" + "0" * 64])
async def test_a_digest_that_is_none_is_refused(store, digest):
    with pytest.raises(ArchiveInvalid, match="64 hex digits"):
        await store.fetch("echo.mar", digest)


async def test_a_directory_cannot_be_pinned_by_digest(store, models):
    make_directory(models / "bare")
    with pytest.raises(ArchiveInvalid, match="is a directory, which has no digest"):
        await store.fetch("bare", WRONG)


async def test_equal_content_is_extracted_once_however_many_ask(store, models, monkeypatch):
    extractions = []
    real = store_module.extract
    monkeypatch.setattr(
        store_module, "extract", lambda *args: (extractions.append(args[1]), real(*args))
    )
    (models / "same.mar").write_bytes((models / "echo.mar").read_bytes())
    names = ["echo.mar", "same.mar"] * 4
    packages = await asyncio.gather(*(store.open(models / name) for name in names))
    assert len({package.directory for package in packages}) == 1
    assert len(extractions) == 1


async def test_a_package_extracted_before_needs_no_source(store, models, tmp_path):
    digest = digest_of(models / "echo.mar")
    first = await store.open(await store.fetch("echo.mar", digest))
    again = Store(tmp_path / "root", models)
    second = await again.open(await again.fetch("echo.mar", digest), digest)
    assert second == first


async def test_a_file_that_changes_is_looked_at_again(store, models):
    first = await store.open(models / "echo.mar")
    make_mar(models / "echo.mar", files(manifest(modelVersion="2.0")))
    second = await store.open(models / "echo.mar")
    assert (first.version, second.version) == ("1.0", "2.0")
    assert first.digest != second.digest


async def test_a_request_may_name_model_version_and_handler(store, models):
    package = await store.open(models / "echo.mar", model="mine", version="9", handler="handler")
    assert (package.model, package.version, package.handler) == ("mine", "9", "handler")


async def test_a_config_in_the_archive_reaches_the_package(store, models):
    content = manifest(configFile="model-config.yaml")
    make_mar(models / "c.mar", {**files(content), "model-config.yaml": "minWorkers: 2\n"})
    assert (await store.open(models / "c.mar")).config == {"minWorkers": 2}


@pytest.mark.parametrize(
    "broken",
    [
        pytest.param(b"PK\3\4 cut", id="an archive cut short"),
        pytest.param(b"", id="an empty file"),
    ],
)
async def test_a_broken_archive_leaves_nothing_behind(store, models, broken, tmp_path):
    (models / "broken.mar").write_bytes(broken)
    with pytest.raises(ArchiveInvalid, match=r"^broken\.mar: "):
        await store.open(models / "broken.mar")
    assert not list((tmp_path / "root" / "packages").iterdir())


async def test_what_a_crash_left_half_made_is_swept_away(store, models, tmp_path):
    another_life = replace(Owner.me(), started="1")
    left = tmp_path / "root" / "packages" / f"abc.partial-{another_life}"
    (left / "files").mkdir(parents=True)
    await store.open(models / "echo.mar")
    assert not left.exists()


async def test_a_removed_package_is_gone_and_can_come_back(store, models):
    package = await store.open(models / "echo.mar")
    await store.remove(package)
    await store.remove(package)
    assert not package.directory.exists()
    assert (await store.open(models / "echo.mar")).directory.is_dir()


async def test_a_missing_archive_is_named(store):
    with pytest.raises(SourceNotFound, match=r"^Model not found at: gone\.mar$"):
        await store.fetch("gone.mar")


async def test_what_is_added_to_a_mounted_config_map_is_waited_for(tmp_path, models, monkeypatch):
    missed, resolve = threading.Event(), store_module.resolve

    def look(*where):
        try:
            return resolve(*where)
        except SourceNotFound:
            missed.set()
            raise

    monkeypatch.setattr(store_module, "resolve", look)
    mounted = tmp_path / "mounted"
    (mounted / "archives").mkdir(parents=True)
    store = Store(tmp_path / "root", around=Around(late=mounted))
    fetching = asyncio.create_task(store.fetch(f"file://{mounted}/archives/echo.mar"))
    assert await asyncio.to_thread(missed.wait, 10)
    (models / "echo.mar").rename(mounted / "archives" / "echo.mar")
    assert await fetching == mounted / "archives" / "echo.mar"


async def test_what_never_comes_is_missed_in_the_end(tmp_path, monkeypatch):
    monkeypatch.setattr(store_module, "LATE_S", 0.6)
    store = Store(tmp_path / "root", around=Around(late=tmp_path))
    with pytest.raises(SourceNotFound, match=r"echo\.mar"):
        await store.fetch(f"file://{tmp_path}/archives/echo.mar")


async def test_the_loop_is_free_while_an_archive_is_opened(store, models, monkeypatch):
    loop = asyncio.get_running_loop()
    reached, go_on = asyncio.Event(), threading.Event()
    real = store_module.extract

    def slow(*args):
        loop.call_soon_threadsafe(reached.set)
        go_on.wait(5)
        real(*args)

    monkeypatch.setattr(store_module, "extract", slow)
    opening = asyncio.create_task(store.open(models / "echo.mar"))
    await reached.wait()
    go_on.set()
    assert (await opening).model == "echo"


def _open_in_another_process(root, archive, barrier, answers):
    barrier.wait()
    package = asyncio.run(Store(root).open(archive))
    answers.put(sorted(path.name for path in package.directory.iterdir()))


@pytest.mark.process
@pytest.mark.timeout(60)
def test_two_processes_may_extract_the_same_archive_at_once(models, tmp_path):
    make_mar(models / "big.mar", files(**{f"f{n}_txt": "x" * 1000 for n in range(300)}))
    context = multiprocessing.get_context("spawn")
    barrier, answers = context.Barrier(2), context.Queue()
    arguments = (tmp_path / "root", models / "big.mar", barrier, answers)
    workers = [context.Process(target=_open_in_another_process, args=arguments) for _ in range(2)]
    for worker in workers:
        worker.start()
    found = [answers.get(timeout=50) for _ in workers]
    for worker in workers:
        worker.join()
    assert found[0] == found[1]
    assert len(found[0]) == 302
    assert [path.suffix for path in (tmp_path / "root" / "packages").iterdir()].count("") == 1
