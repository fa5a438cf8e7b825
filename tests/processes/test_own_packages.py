"""Workers of a model with packages of its own: what they import, and how they are born."""

import os
from dataclasses import replace

import pytest

from flambeau_runtime.archive.environments import Environments
from tests.processes.living import answer, living, package, parent
from tests.wheels import from_wheels, write_wheel

pytestmark = [pytest.mark.process, pytest.mark.timeout(60)]

TELLS = """
    import os, subprocess, sys
    import {module}

    CHILD = [sys.executable, "-c", "import {module}; print({module}.VERSION)"]

    def handle(data, context):
        if data is not None:
            told = {{"pid": os.getpid(), "version": {module}.VERSION, "prefix": sys.prefix}}
            told["child"] = subprocess.check_output(CHILD, text=True).strip()
            told["ours"] = bool(__import__("orjson").dumps(1))
            return [told for _ in data]
"""


async def equipped(tmp_path, requirements, **config):
    """Return the environment of a model that requires these."""
    write_wheel(tmp_path / "wheels", "tiny_words", "1.0")
    write_wheel(tmp_path / "wheels", "mpmath", "0.1")  # of which the runtime has another version
    opened = package(tmp_path / "model", "", **config)
    (opened.directory / "requirements.txt").write_text(requirements)
    manifest = {"model": {"requirementsFile": "requirements.txt"}}
    environ = {**os.environ, **from_wheels(tmp_path / "wheels")}
    environments = Environments(tmp_path / "root", environ, install=True)
    return (await environments.equip(replace(opened, manifest=manifest))).environment


async def test_what_is_new_only_is_imported_by_a_forked_worker(tmp_path):
    own = await equipped(tmp_path, "tiny_words\n")
    source = TELLS.format(module="tiny_words")
    async with living(tmp_path, source, fork="plain", own=own) as (live, supervisor):
        told = await answer(live)
        assert (told["version"], told["child"], told["ours"]) == ("1.0", "1.0", True)
        assert parent(told["pid"]) == supervisor.template_pid


async def test_another_version_of_what_the_template_may_have_imported_is_not_forked(tmp_path):
    own = await equipped(tmp_path, "mpmath==0.1\n")
    source = TELLS.format(module="mpmath")
    async with living(tmp_path, source, fork="plain", own=own) as (live, _):
        told = await answer(live)
        assert (told["version"], told["child"]) == ("0.1", "0.1")
        assert parent(told["pid"]) == os.getpid()


async def test_a_virtual_environment_has_an_interpreter_of_its_own(tmp_path):
    own = await equipped(tmp_path, "mpmath==0.1\n", useVenv=True)
    source = TELLS.format(module="mpmath")
    async with living(tmp_path, source, fork="plain", own=own) as (live, _):
        told = await answer(live)
        assert (told["version"], told["child"], told["ours"]) == ("0.1", "0.1", True)
        assert told["prefix"] == str(own.home / "venv")
        assert parent(told["pid"]) == os.getpid()
