"""The fence: who may change what this runtime serves, and that a restart forgets none of it."""

import asyncio
import threading

import orjson
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from flambeau_runtime.errors import StaleDocument
from flambeau_runtime.serving import accepted as accepted_module
from tests.dataplane.managed_world import (
    KEY,
    ManagedWorld,
    entry,
    place_boot_file,
    started,
    write_boot_file,
    written,
)

OTHERS = {"namespace": "team-a", "name": "vision", "uid": "uid-2"}


@pytest.mark.parametrize(
    ("first", "second", "status"),
    [
        pytest.param(written(3), written(3), 202, id="the same document again is fine"),
        pytest.param(written(3), written(4), 202, id="a higher sequence is fine"),
        pytest.param(written(3), written(9, entry("2.0"), default="2.0"), 202, id="so is a leap"),
        pytest.param(written(3), written(2), 409, id="a lower sequence is stale"),
        pytest.param(
            written(3),
            written(3, entry("2.0"), default="2.0"),
            409,
            id="another document needs another sequence",
        ),
        pytest.param(
            written(3), written(9, owner=OTHERS), 409, id="another owner's document is refused"
        ),
        pytest.param(
            written(3),
            written(3, entry("1.0", batching={"maxDelaySeconds": 0.05, "maxSize": 8})),
            202,
            id="the order of fields means nothing",
        ),
    ],
)
async def test_after_one_document_comes_another(tmp_path, first, second, status):
    async with started(tmp_path) as world:
        assert (await world.put(first)).status == 202
        answered = await world.put(second)
        assert answered.status == status
        if status == 409:
            assert answered.json()["type"] == "StaleDocument"
            assert answered.json()["current"] == {"uid": "uid-1", "sequence": 3}
            assert (await world.get())["desired"] == first


async def test_the_first_document_must_be_the_owners(tmp_path):
    async with started(tmp_path) as world:
        answered = await world.put(written(1, owner=OTHERS))
        assert answered.status == 409
        assert answered.json()["current"] == {"uid": "uid-1", "sequence": 0}
        assert (await world.get())["desired"] is None


async def test_a_document_is_on_disk_before_it_is_acted_upon(tmp_path, monkeypatch):
    seen = []
    async with started(tmp_path) as world:
        want = world.converger.want

        def note(document, **more):
            seen.append(orjson.loads((tmp_path / "accepted.json").read_bytes())["sequence"])
            want(document, **more)

        monkeypatch.setattr(world.converger, "want", note)
        await world.put(written(5))
    assert seen == [5]


async def test_a_restarted_runtime_cannot_be_taken_back(tmp_path):
    async with started(tmp_path) as world:
        await world.put(written(5))
    write_boot_file(tmp_path, written(4, entry("0.9"), default="0.9"))
    async with started(tmp_path) as world:
        assert (await world.get())["desired"]["sequence"] == 5
        assert (await world.put(written(4))).status == 409
        await world.until(lambda: world.phase("1.0") == "Ready")
        assert world.phase("0.9") is None


async def test_a_start_takes_the_boot_file_when_it_is_newer(tmp_path):
    async with started(tmp_path) as world:
        await world.put(written(5))
    write_boot_file(tmp_path, written(6, entry("2.0"), default="2.0"))
    async with started(tmp_path) as world:
        await world.until(lambda: world.catalogue.report().ready)
        assert world.answering() == "2.0"
        assert world.store.fetched == ["file:///models/vision-2.0.mar"]


async def test_a_document_that_could_not_be_kept_is_not_acted_upon(tmp_path):
    async with started(tmp_path) as world:
        await world.put(written(1))
        (tmp_path / "accepted.partial").mkdir()
        assert (await world.put(written(2))).status == 500
        assert (await world.get())["desired"]["sequence"] == 1
        (tmp_path / "accepted.partial").rmdir()
        assert (await world.put(written(2))).status == 202


async def test_a_caller_who_leaves_while_it_is_written_takes_nothing_back(tmp_path):
    async with started(tmp_path) as world:
        writing, may_end = threading.Event(), threading.Event()
        write = world.accepted._file.write

        def slowly(text, sequence):
            writing.set()
            may_end.wait()
            write(text, sequence)

        world.accepted._file.write = slowly
        leaving = asyncio.create_task(world.put(written(7)))
        await world.until(writing.is_set)
        leaving.cancel()
        await asyncio.wait([leaving])
        may_end.set()
        assert (await world.put(written(6))).status == 409
        assert (await world.put(written(7))).status == 202
        await world.until(lambda: world.phase("1.0") == "Ready")


async def test_of_documents_that_come_together_the_highest_stays(tmp_path):
    async with started(tmp_path) as world:
        answers = await asyncio.gather(*(world.put(written(n)) for n in (3, 9, 5, 8, 9)))
        assert [answer.status for answer in answers] == [202, 202, 409, 409, 202]
    assert orjson.loads((tmp_path / "accepted.json").read_bytes())["sequence"] == 9


def test_a_write_that_was_overtaken_changes_nothing(tmp_path):
    file = accepted_module._DurableFile(tmp_path / "accepted.json")
    file.write(b"9", 9)
    file.write(b"3", 3)
    assert file.read() == b"9"


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"", id="an empty file"),
        pytest.param(b'{"owner": {"na', id="a file cut short"),
        pytest.param(b"\x00\xff" * 100, id="noise"),
        pytest.param(orjson.dumps(written(9, owner=OTHERS)), id="somebody else's document"),
        pytest.param(orjson.dumps({**written(9), "future": 1}), id="a document nobody understands"),
    ],
)
async def test_a_start_is_not_stopped_by(tmp_path, content, caplog):
    (tmp_path / "accepted.json").write_bytes(content)
    write_boot_file(tmp_path, written(2))
    async with started(tmp_path) as world:
        await world.until(lambda: world.catalogue.report().ready)
        assert (await world.get())["desired"]["sequence"] == 2
    assert "last accepted document ignored" in caplog.messages


# the boot file


async def test_a_start_without_anything_waits_and_is_not_ready(tmp_path):
    world = ManagedWorld(tmp_path)
    async with world.converger, world.accepted:
        assert (await world.call("GET", "/ready")).status == 503
        write_boot_file(tmp_path, written(1))
        await world.until(lambda: world.catalogue.report().ready)


async def test_a_boot_file_that_was_replaced_is_adopted_only_when_it_is_newer(tmp_path):
    async with started(tmp_path) as world:
        await world.put(written(5))
        write_boot_file(tmp_path, written(4, entry("0.9"), default="0.9"), KEY, other())
        await world.until(lambda: len(world.accepted.public_keys) == 2)
        assert (await world.get())["desired"]["sequence"] == 5
        write_boot_file(tmp_path, written(6, entry("2.0"), default="2.0"))
        await world.until(lambda: world.phase("2.0") == "Ready")
        assert (await world.put(written(5))).status == 409


def other() -> Ed25519PrivateKey:
    return Ed25519PrivateKey.generate()


async def test_new_keys_are_taken_from_a_replaced_boot_file(tmp_path):
    async with started(tmp_path) as world:
        assert (await world.call("GET", "/state")).status == 200
        write_boot_file(tmp_path, None, other())
        before = world.accepted.public_keys
        await world.until(lambda: world.accepted.public_keys != before)
        assert (await world.call("GET", "/state")).status == 401


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b'{"document": {', id="half-way written"),
        pytest.param(b"[]", id="not an object"),
        pytest.param(b'{"document": 7, "publicKeys": 7}', id="of the wrong types"),
        pytest.param(b'{"document": null, "publicKeys": [1, null]}', id="with keys that are none"),
    ],
)
async def test_a_boot_file_is_survived_that_is(tmp_path, content):
    place_boot_file(tmp_path, content)
    async with started(tmp_path) as world:
        write_boot_file(tmp_path, written(1))
        await world.until(lambda: world.catalogue.report().ready)


async def test_a_broken_document_does_not_make_the_keys_beside_it_useless(tmp_path):
    write_boot_file(tmp_path, {"models": 7})
    async with started(tmp_path) as world:
        assert (await world.put(written(1))).status == 202


async def test_a_boot_file_with_other_content_for_a_version_that_serves_is_ignored(tmp_path):
    async with started(tmp_path) as world:
        await world.put(written(5))
        await world.until(lambda: world.phase("1.0") == "Ready")
        stamp = world.accepted._boot_stamp
        changed = entry("1.0", source={"uri": "file:///other.mar"})
        write_boot_file(tmp_path, written(6, changed))
        await world.until(lambda: world.accepted._boot_stamp != stamp)
        assert (await world.get())["desired"]["sequence"] == 5


async def test_after_a_boot_the_candidate_waits_and_the_same_document_again_lets_it_go(tmp_path):
    document = written(5, entry("1.0"), entry("2.0"))
    async with started(tmp_path) as world:
        await world.put(document)
    world = ManagedWorld(tmp_path)
    world.fleet.held.add("1.0")
    async with world.converger, world.accepted:
        await world.loading("1.0")
        assert world.phase("2.0") == "Pending"
        assert (await world.put(document)).status == 202
        await world.until(lambda: world.phase("2.0") == "Ready")


def test_a_pass_through_the_fence_is_silent_and_a_refusal_names_the_pair():
    with pytest.raises(StaleDocument, match="uid uid-1") as refused:
        accepted_module.judge(None, accepted_module.Document(), "uid-1")
    assert (refused.value.uid, refused.value.sequence) == ("uid-1", 0)
