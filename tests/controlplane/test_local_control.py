"""The socket by which commands reach a session: found by its own user, and by nobody else."""

import asyncio
import os
import stat
import tempfile
from pathlib import Path

import pytest

from flambeau_operator.doors import Key
from flambeau_operator.errors import Conflict, Unavailable
from flambeau_operator.local import control

KEY = Key("default", "vision")


@pytest.fixture(autouse=True)
def base(monkeypatch):
    """A temporary folder with a name that is short enough for a socket's address."""
    with tempfile.TemporaryDirectory(prefix="fl-", dir="/tmp") as folder:
        monkeypatch.setattr(tempfile, "tempdir", folder)
        yield Path(folder)


async def echo(question):
    if question["verb"] == "refuse":
        raise Conflict("another one by now")
    return {"heard": question}


async def test_a_session_is_found_while_it_listens_and_hears_what_is_asked(base):
    folder = control.control_folder()
    async with control.listening(folder, echo):
        (socket,) = control.session_sockets()
        answer = await control.ask(socket, control.question("read", KEY, wait=1))
        heard = {"verb": "read", "namespace": "default", "name": "vision", "wait": 1}
        assert answer["heard"] == heard
        assert folder.parent == base


async def test_only_its_user_may_enter():
    folder = control.control_folder()
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


async def test_a_folder_that_others_may_enter_is_not_a_session():
    folder = control.control_folder()
    async with control.listening(folder, echo):
        folder.chmod(0o755)
        assert control.session_sockets() == ()


async def test_a_folder_of_somebody_else_is_not_a_session(monkeypatch):
    folder = control.control_folder()
    async with control.listening(folder, echo):
        monkeypatch.setattr(os, "getuid", lambda: folder.stat().st_uid + 1)
        assert control.session_sockets() == ()


async def test_a_refusal_comes_back_as_what_it_was():
    folder = control.control_folder()
    async with control.listening(folder, echo):
        with pytest.raises(Conflict, match="another one by now"):
            await control.ask(folder / control.SOCKET, {"verb": "refuse"})


@pytest.mark.parametrize("line", [b"\n", b"not JSON\n", b"[]\n", b"{}\n", b""])
async def test_nonsense_is_answered_and_the_session_goes_on(line):
    folder = control.control_folder()
    async with control.listening(folder, echo):
        reader, writer = await asyncio.open_unix_connection(folder / control.SOCKET)
        writer.write(line)
        writer.write_eof()
        assert b"Misunderstood" in await reader.readline()
        writer.close()
        assert await control.ask(folder / control.SOCKET, {"verb": "list"})


async def test_a_session_that_has_ended_is_told_from_one_that_is_silent(monkeypatch):
    folder = control.control_folder()
    async with control.listening(folder, echo):
        pass
    with pytest.raises(control.SessionEnded):
        await control.ask(folder / control.SOCKET, {"verb": "list"})

    async def never(_):
        await asyncio.Event().wait()

    monkeypatch.setattr(control, "PATIENCE_S", 0.1)
    async with control.listening(control.control_folder(), never):
        socket = next(each for each in control.session_sockets() if each.parent != folder)
        with pytest.raises(Unavailable):
            await control.ask(socket, {"verb": "list"})


def test_where_the_temporary_folder_has_a_long_name_it_is_tmp(monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", "/" + "long/" * 20)
    folder = control.control_folder()
    try:
        assert str(folder.parent) == "/tmp"  # noqa: S108  the one that is always there
    finally:
        folder.rmdir()
