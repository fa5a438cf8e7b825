"""A watch that has gone deaf is told from one with nothing to tell."""

import pytest

from flambeau_operator.doors import Key
from flambeau_operator.hearing import GRACE_S, Change, Hearing

VISION, SPEECH = Key("team", "vision"), Key("team", "speech")
LATER = GRACE_S + 1


def change(version, generation=1, key=VISION, deleted=False):
    return Change(key, str(version), generation, ("uid", str(generation)), deleted)


@pytest.fixture
def hearing():
    hearing = Hearing()
    hearing.hear(change(10))
    return hearing


@pytest.mark.parametrize(
    ("event", "worth_a_pass"),
    [
        pytest.param(change(11, generation=2), True, id="another spec"),
        pytest.param(change(11), False, id="a status that we wrote ourselves"),
        pytest.param(change(11, key=SPEECH), True, id="a new object"),
        pytest.param(change(11, deleted=True), True, id="its end"),
    ],
)
def test_an_event_is_worth_a_pass(hearing, event, worth_a_pass):
    assert hearing.hear(event) is worth_a_pass


@pytest.mark.parametrize(
    ("listed", "missed"),
    [
        pytest.param({VISION: "10"}, [], id="the list knows no more than the watch"),
        pytest.param({VISION: "9"}, [], id="the list is older than the watch"),
        pytest.param({VISION: "11"}, [VISION], id="a change was not told"),
        pytest.param({VISION: "10", SPEECH: "3"}, [SPEECH], id="a new object was not told"),
        pytest.param({}, [], id="an end that was not told is taken from the list"),
    ],
)
def test_a_watch_is_deaf_when_it_never_tells_what_a_list_shows(hearing, listed, missed):
    hearing.compare(listed, now=0)
    assert hearing.missed(now=GRACE_S) == []
    assert hearing.missed(now=LATER) == missed


def test_a_watch_that_is_late_is_not_deaf(hearing):
    hearing.compare({VISION: "11"}, now=0)
    hearing.hear(change(11))
    assert hearing.missed(now=LATER) == []


def test_what_a_list_shows_to_be_missed_or_gone_is_worth_a_pass(hearing):
    assert hearing.compare({SPEECH: "3"}, now=0) == {VISION, SPEECH}
    assert hearing.hear(change(12))
