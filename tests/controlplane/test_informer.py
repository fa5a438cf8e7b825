"""What is known by watching is right again after whatever happened to the watch."""

import asyncio
import contextlib

import pytest

from flambeau_operator.doors import Key
from flambeau_operator.kubernetes import kinds
from flambeau_operator.kubernetes.informer import Backoff, Informer
from flambeau_operator.kubernetes.pods import keep_pod
from tests.controlplane.fake_api import FakeApi, refusal

VISION = Key("team", "vision")


class Watcher:
    """An informer of pods, and whom it has told of."""

    def __init__(self, api, silence_s):
        self.told = []
        self.informer = Informer(
            api,
            kinds.PODS,
            "team",
            keep=keep_pod,
            changed=self.told.append,
            dice=lambda: 0.0,
            whole=True,
            silence_s=silence_s,
            backoff=Backoff(first_s=0.01, last_s=0.05),
        )

    def names(self, owner=VISION):
        return sorted(name for name, _ in self.informer.owned_by(owner))


@contextlib.asynccontextmanager
async def watching(fake, silence_s=10.0):
    async with fake.serving() as api:
        watcher = Watcher(api, silence_s)
        task = asyncio.create_task(watcher.informer.run())
        try:
            await watcher.informer.synced.wait()
            await until(lambda: fake.watches)
            yield watcher
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


async def until(true):
    async with asyncio.timeout(5):
        while True:
            if true():
                return
            await asyncio.sleep(0.005)


@pytest.fixture
def fake():
    fake = FakeApi()
    fake.put("a")
    fake.put("b")
    return fake


async def test_what_exists_is_known_and_what_happens_is_told(fake):
    async with watching(fake) as watcher:
        assert watcher.names() == ["a", "b"]
        watcher.told.clear()
        fake.put("c")
        fake.remove("a")
        await until(lambda: watcher.names() == ["b", "c"])
    assert watcher.told == [VISION, VISION]


async def test_a_change_of_owner_is_told_to_both(fake):
    async with watching(fake) as watcher:
        watcher.told.clear()
        fake.put("a", owner="speech")
        await until(lambda: watcher.names(Key("team", "speech")) == ["a"])
    assert set(watcher.told) == {VISION, Key("team", "speech")}


async def test_what_was_deleted_while_history_was_lost_is_forgotten_and_told(fake):
    async with watching(fake) as watcher:
        watcher.told.clear()
        fake.remove("a", tell=False)
        fake.lose_history()
        await until(lambda: len(fake.lists) == 2)
        await until(lambda: watcher.names() == ["b"])
    assert watcher.told == [VISION]


async def test_history_that_is_lost_when_a_watch_begins_means_a_new_list_too(fake):
    async with watching(fake) as watcher:
        fake.answers.append(refusal(410, "Expired", "too old"))
        fake.remove("a", tell=False)
        fake.hang_up()
        await until(lambda: watcher.names() == ["b"])


async def test_a_watch_that_falls_silent_is_opened_again_where_it_was(fake):
    async with watching(fake, silence_s=0.2) as watcher:
        fake.put("a", tell=False, changed="unheard")
        await until(lambda: len(fake.watches) > 1)
        assert fake.lists == [102]
        assert fake.watches[:2] == [102, 102]
        assert watcher.names() == ["a", "b"]


async def test_a_watch_that_only_ever_falls_silent_is_told_from_an_api_server_that_is_away(fake):
    async with watching(fake, silence_s=0.1) as watcher:
        heard_at = watcher.informer.heard_at
        await until(lambda: len(fake.watches) > 2)
        assert watcher.informer.heard_at == heard_at
        fake.answers.append(refusal(500, "InternalError", "etcd is away"))
        await until(lambda: watcher.informer.heard_at > heard_at)


async def test_bookmarks_keep_a_quiet_watch_alive_and_move_its_beginning(fake):
    async with watching(fake, silence_s=0.3) as _:
        for version in range(110, 116):
            metadata = {"resourceVersion": str(version)}
            fake.say({"type": "BOOKMARK", "object": {"metadata": metadata}})
            await asyncio.sleep(0.1)
        assert fake.watches == [102]
        fake.hang_up()
        await until(lambda: len(fake.watches) > 1)
        assert fake.watches[1] == 115


@pytest.mark.parametrize("nonsense", [b"<html>", b"[]", b'{"type": "ADDED"}', b'{"object": {}}'])
async def test_nonsense_ends_the_watch_and_loses_nothing(fake, nonsense):
    async with watching(fake) as watcher:
        fake.say(nonsense)
        fake.put("c", tell=False)
        await until(lambda: watcher.names() == ["a", "b", "c"])


async def test_an_api_server_that_fails_is_asked_again(fake):
    fake.answers += [refusal(500, "InternalError", "etcd is away")] * 3
    async with watching(fake) as watcher:
        assert watcher.names() == ["a", "b"]


async def test_a_list_comes_in_pages(fake):
    page = b'{"metadata": {"resourceVersion": "7", "continue": "more"}, "items": null}'
    fake.answers.append((200, {}, page))
    async with watching(fake) as watcher:
        assert watcher.names() == ["a", "b"]
    asked = [query for _, _, query in fake.asked if "limit" in query]
    assert [each.get("continue") for each in asked] == [None, "more"]


async def test_pods_that_have_ended_for_good_are_not_counted(fake):
    async with watching(fake) as watcher:
        ended = {**fake.objects["a"], "status": {"phase": "Failed", "reason": "Evicted"}}
        ended["metadata"] = {**ended["metadata"], "resourceVersion": "200"}
        fake.say({"type": "MODIFIED", "object": ended})
        await until(lambda: watcher.names() == ["b"])
