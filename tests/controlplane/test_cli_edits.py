"""Edits of the files: good ones are carried over, broken ones change nothing."""

import asyncio

import pytest

from flambeau_operator.cli.edits import Edits
from flambeau_operator.doors import Key
from flambeau_operator.errors import PortInUse, Unavailable

FIRST, SECOND = Key("default", "first"), Key("default", "second")


def manifest(name, version="1.0"):
    return f"""\
apiVersion: serving.flambeau.dev/v1alpha1
kind: ModelDeployment
metadata: {{name: {name}}}
spec:
  models: [{{name: a, version: "{version}", source: {{uri: a.mar}}}}]
"""


class Session:
    """Remembers what it was told."""

    def __init__(self, refusal=None):
        self.told = []
        self.refusal = refusal

    async def apply(self, body):
        if self.refusal:
            raise self.refusal
        (model,) = body["spec"]["models"]
        self.told.append(("apply", body["metadata"]["name"], model["version"]))

    async def delete(self, key):
        self.told.append(("delete", key.name))


@pytest.fixture
def file(tmp_path):
    file = tmp_path / "two.yaml"
    file.write_text(manifest("first") + "---\n" + manifest("second"))
    return file


@pytest.fixture
async def taken_up(file):
    """Edits whose session already serves both deployments."""
    session = Session()
    edits = Edits([file], session)
    await edits.take_up(edits.check())
    session.told.clear()
    return edits, session


async def test_what_has_not_changed_is_not_applied_again(taken_up, file):
    edits, session = taken_up
    file.write_text(manifest("first", "2.0") + "---\n" + manifest("second"))
    assert await edits.take_up(edits.check()) == ()
    assert session.told == [("apply", "first", "2.0")]


async def test_a_document_that_is_taken_out_is_deleted(taken_up, file):
    edits, session = taken_up
    file.write_text(manifest("second"))
    await edits.take_up(edits.check())
    assert session.told == [("delete", "first")]
    assert (edits.applied(FIRST), bool(edits.applied(SECOND))) == ({}, True)


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(manifest("first").replace('"1.0"', "1.0"), id="a number where a text belongs"),
        pytest.param("spec: [", id="no YAML"),
        pytest.param("", id="an empty file"),
        pytest.param(None, id="a file that is gone"),
    ],
)
async def test_while_anything_is_broken_nothing_is_deleted(taken_up, file, text):
    edits, session = taken_up
    if text is None:
        file.unlink()
    else:
        file.write_text(text)
    problems = await edits.take_up(edits.check())
    assert (len(problems), session.told) == (1, [])


async def test_beside_a_broken_document_a_good_one_is_applied(taken_up, file):
    edits, session = taken_up
    file.write_text(manifest("first").replace('"1.0"', "1.0") + "---\n" + manifest("second", "2.0"))
    problems = await edits.take_up(edits.check())
    assert (len(problems), session.told) == (1, [("apply", "second", "2.0")])


async def test_an_address_that_cannot_be_had_is_told_with_the_document(file):
    edits = Edits([file], Session(refusal=PortInUse("127.0.0.1", 8080, "in use")))
    problems = await edits.take_up(edits.check())
    assert [(each.line, "8080" in each.message) for each in problems] == [(1, True), (7, True)]


@pytest.mark.looptime
async def test_a_file_in_the_middle_of_a_write_is_left_until_it_is_whole(taken_up, file):
    edits, session = taken_up
    following = edits.follow()
    async with asyncio.TaskGroup() as tasks:
        told = tasks.create_task(anext(following))
        for part in (60, 120, 180, None):
            file.write_text(manifest("second", "2.0")[:part])
            await asyncio.sleep(0.15)
    assert told.result() == ()
    assert session.told == [("apply", "second", "2.0"), ("delete", "first")]
    await following.aclose()


@pytest.mark.looptime
async def test_what_a_full_disk_kept_from_being_applied_is_told_once_and_done_when_there_is_room(
    taken_up, file
):
    edits, session = taken_up
    following = edits.follow()
    session.refusal = Unavailable("cannot write object.json: No space left on device")
    file.write_text(manifest("first", "2.0") + "---\n" + manifest("second"))
    (problem,) = await anext(following)
    assert (problem.line, "No space left" in problem.message) == (1, True)
    async with asyncio.TaskGroup() as tasks:
        told = tasks.create_task(anext(following))
        await asyncio.sleep(5)
        assert not told.done()
        session.refusal = None
    assert told.result() == ()
    assert session.told == [("apply", "first", "2.0")]
    await following.aclose()
