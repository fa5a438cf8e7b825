"""Packages of a model's own: what is installed, where, how often, and what is left by a failure."""

import asyncio
import fcntl
import json
import os
import shutil
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import replace
from importlib import metadata

import pytest

from flambeau_runtime.archive import environments as module
from flambeau_runtime.archive.environments import Environments
from flambeau_runtime.archive.installer import InstallationFailed, Pip, Uv, find_installer
from flambeau_runtime.archive.package import Package
from flambeau_runtime.errors import RequirementsFailed
from tests.wheels import from_wheels, write_wheel

pytestmark = pytest.mark.timeout(120)


@pytest.fixture
def wheels(tmp_path):
    folder = tmp_path / "wheels"
    write_wheel(folder, "tiny_words", "1.0")
    write_wheel(folder, "tiny_words", "2.0")
    write_wheel(folder, "needs_ours", "1.0", requires=("orjson", "tiny_words<2"))
    write_wheel(folder, "orjson", "0.1")
    write_wheel(folder, "wants_old", "1.0", requires=("orjson<1",))
    write_wheel(folder, "orjson", "99.0")
    write_wheel(folder, "moves_on", "1.0", requires=("orjson",))
    write_wheel(folder, "moves_on", "2.0", requires=("orjson>=99",))
    return folder


@pytest.fixture(params=["uv", "pip"])
def installer(request, monkeypatch):
    if request.param == "pip":
        monkeypatch.setattr(module, "find_installer", Pip)
    return request.param


@pytest.fixture
def make(tmp_path, wheels):
    made = []

    def environments(root="root", **environ):
        seen = {**os.environ, **from_wheels(wheels), **environ}
        made.append(Environments(tmp_path / root, seen, install=True))
        return made[-1]

    yield environments
    for it in made:
        it.close()


def model(tmp_path, requirements, name="m", **config):
    folder = tmp_path / name
    folder.mkdir(exist_ok=True)
    (folder / "requirements.txt").write_text(requirements)
    manifest = {"model": {"modelName": name, "requirementsFile": "requirements.txt"}}
    return Package(name, "1.0", folder, manifest, "sha256:0", 0, "handler.py", config)


def installed(environment):
    return sorted(it.name for it in environment.packages.glob("*.py"))


def seen_by(environment, code):
    return subprocess.run(
        [environment.python, "-c", code], capture_output=True, text=True, check=True
    ).stdout.strip()


@pytest.mark.usefixtures("installer")
async def test_a_model_gets_what_it_requires_in_a_directory_of_its_own(tmp_path, make):
    package = await make().equip(model(tmp_path, "tiny_words==1.0\n"))
    assert installed(package.environment) == ["tiny_words.py"]
    assert package.environment.suits_a_fork


@pytest.mark.usefixtures("installer")
async def test_what_the_runtime_has_is_not_fetched_again(tmp_path, make):
    package = await make().equip(model(tmp_path, "needs_ours\n"))
    assert installed(package.environment) == ["needs_ours.py", "tiny_words.py"]


@pytest.mark.usefixtures("installer")
async def test_what_fits_the_runtimes_packages_goes_before_what_is_newer(tmp_path, make):
    package = await make().equip(model(tmp_path, "moves_on\n"))
    assert installed(package.environment) == ["moves_on.py"]
    assert (package.environment.packages / "moves_on.py").read_text() == "VERSION = '1.0'\n"


@pytest.mark.usefixtures("installer")
async def test_another_version_of_what_the_runtime_has_is_the_models_own(tmp_path, make):
    package = await make().equip(model(tmp_path, "wants_old\n"))
    assert installed(package.environment) == ["orjson.py", "wants_old.py"]
    assert not package.environment.suits_a_fork


@pytest.mark.usefixtures("installer")
async def test_a_virtual_environment_has_the_models_packages_before_the_runtimes(tmp_path, make):
    package = await make().equip(model(tmp_path, "wants_old\n", useVenv=True))
    code = "import orjson, fsspec, flambeau_runtime, sys; print(orjson.VERSION, sys.prefix)"
    home = package.environment.home / "venv"
    assert seen_by(package.environment, code) == f"0.1 {home}"
    assert not package.environment.suits_a_fork


async def test_a_virtual_environment_is_made_for_a_model_that_requires_nothing(tmp_path, make):
    package = model(tmp_path, "", useVenv=True)
    equipped = await make().equip(replace(package, manifest={"model": {}}))
    assert seen_by(equipped.environment, "import orjson; print(orjson.__version__)") == (
        metadata.version("orjson")
    )


async def test_nothing_is_installed_without_consent(tmp_path):
    package = model(tmp_path, "tiny_words\n")
    environments = Environments(tmp_path / "root", os.environ)
    assert await environments.equip(package) is package
    assert not (tmp_path / "root").exists()


@pytest.mark.usefixtures("installer")
async def test_options_and_files_beside_the_requirements_count(tmp_path, make):
    package = model(tmp_path, "-r more.txt\n--find-links ./beside\n")
    write_wheel(package.directory / "beside", "from_beside", "3.0")
    (package.directory / "more.txt").write_text("from_beside  # not in any index\n")
    equipped = await make(PIP_FIND_LINKS="").equip(package)
    assert installed(equipped.environment) == ["from_beside.py"]


@pytest.mark.usefixtures("installer")
async def test_a_wheel_in_the_archive_is_installed(tmp_path, make):
    package = model(tmp_path, "./tiny_words-1.0-py3-none-any.whl\n")
    write_wheel(package.directory, "tiny_words", "1.0")
    assert installed((await make().equip(package)).environment) == ["tiny_words.py"]


@pytest.mark.usefixtures("installer")
async def test_hashes_are_compared(tmp_path, make):
    wrong = "tiny_words==1.0 --hash=sha256:" + "0" * 64
    with pytest.raises(RequirementsFailed, match=r"(?i)hash"):
        await make().equip(model(tmp_path, f"{wrong}\n"))


async def test_two_models_of_equal_requirements_share_one_installation(tmp_path, make):
    environments = make()
    one = await environments.equip(model(tmp_path, "tiny_words==1.0\n", "one"))
    began = (one.environment.home / "complete.json").stat().st_mtime_ns
    other = await environments.equip(model(tmp_path, "tiny_words==1.0\n", "other"))
    assert other.environment == one.environment
    assert (one.environment.home / "complete.json").stat().st_mtime_ns == began


async def test_two_runtimes_at_once_install_once(tmp_path, make):
    package = model(tmp_path, "tiny_words==1.0\n")
    one, other = await asyncio.gather(make().equip(package), make().equip(package))
    assert one.environment == other.environment
    assert len(list((tmp_path / "root").glob("*/complete.json"))) == 1


@pytest.mark.parametrize("config", [{}, {"useVenv": True}], ids=["a directory", "a venv"])
@pytest.mark.usefixtures("installer")
async def test_what_cannot_be_installed_says_so_in_the_installers_words(tmp_path, make, config):
    with pytest.raises(RequirementsFailed) as failed:
        await make().equip(model(tmp_path, "nobody_has_this==9\n", **config))
    said = str(failed.value)
    assert said.startswith("Custom pip package installation failed for model m: ")
    assert "nobody" in said
    assert len(said) < 3000
    assert not list((tmp_path / "root").glob("*/complete.json"))


async def test_a_requirements_file_that_is_not_there_is_named(tmp_path, make):
    package = model(tmp_path, "")
    (package.directory / "requirements.txt").unlink()
    with pytest.raises(RequirementsFailed, match=r"requirements\.txt"):
        await make().equip(package)


async def test_what_was_half_made_is_made_again(tmp_path, make):
    package = model(tmp_path, "tiny_words==1.0\n")
    first = make()
    home = (await first.equip(package)).environment.home
    first.close()
    (home / "complete.json").unlink()
    (home / "packages" / "tiny_words.py").write_text("half of")
    again = await make().equip(package)
    assert again.environment.home == home
    assert (home / "packages" / "tiny_words.py").read_text() == "VERSION = '1.0'\n"


def an_installer(tmp_path, script):
    """Return a `uv` that does something else."""
    program = tmp_path / "other" / "uv"
    program.parent.mkdir()
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    return program


def slow_installer(tmp_path):
    """Return one that says its process id and then takes for ever."""
    return an_installer(tmp_path, f'echo $$ > "{tmp_path}/pid"\nexec sleep 3600')


def use(monkeypatch, program):
    monkeypatch.setattr(module, "find_installer", lambda environ: Uv(environ, str(program)))


async def test_of_an_installer_that_talks_for_ever_the_last_words_are_kept(
    tmp_path, make, monkeypatch
):
    use(monkeypatch, an_installer(tmp_path, "yes | head -c 5000000\necho the end\nexit 3"))
    with pytest.raises(RequirementsFailed) as failed:
        await make().equip(model(tmp_path, "tiny_words\n"))
    assert str(failed.value).endswith("the end")
    assert len(str(failed.value)) < 3000


async def test_an_installer_that_never_ends_is_ended(tmp_path, make, monkeypatch):
    use(monkeypatch, slow_installer(tmp_path))
    monkeypatch.setattr("flambeau_runtime.archive.installer.LIMIT_S", 0.5)
    with pytest.raises(RequirementsFailed, match=r"not done after 0\.5 s"):
        await make().equip(model(tmp_path, "tiny_words\n"))
    assert is_gone(pid_of(tmp_path))


async def test_what_an_installer_leaves_running_is_not_waited_for(tmp_path, make, monkeypatch):
    use(monkeypatch, an_installer(tmp_path, f'sleep 30 &\necho $! > "{tmp_path}/pid"\nexit 0'))
    package = await make().equip(model(tmp_path, "tiny_words\n"))
    assert installed(package.environment) == []
    os.kill(pid_of(tmp_path), 9)


async def until(reached, limit_s=20.0):
    deadline = time.monotonic() + limit_s
    while not (answer := reached()):
        assert time.monotonic() < deadline
        await asyncio.sleep(0.02)
    return answer


def pid_of(tmp_path):
    with suppress(OSError, ValueError):
        return int((tmp_path / "pid").read_text())
    return None


def is_gone(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


async def test_whoever_stops_waiting_ends_the_installer(tmp_path, make, monkeypatch):
    use(monkeypatch, slow_installer(tmp_path))
    waiting = asyncio.create_task(make().equip(model(tmp_path, "tiny_words\n")))
    pid = await until(lambda: pid_of(tmp_path))
    waiting.cancel()
    with suppress(asyncio.CancelledError):
        await waiting
    await until(lambda: is_gone(pid))


KILLED = """
import asyncio, json, pathlib, sys
from flambeau_runtime.archive import environments
from flambeau_runtime.archive.installer import Uv
from flambeau_runtime.archive.package import Package

folder, program = map(pathlib.Path, sys.argv[1:])
environments.find_installer = lambda environ: Uv(environ, str(program))
manifest = {"model": {"requirementsFile": "requirements.txt"}}
package = Package("m", "1.0", folder / "m", manifest, "sha256:0", 0, "handler.py", {})
asyncio.run(environments.Environments(folder / "root", {}, install=True).equip(package))
"""


def is_locked(root):
    (file,) = root.glob("*.lock")
    with file.open() as opened:
        try:
            fcntl.flock(opened, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def start_to_be_killed(tmp_path, program):
    return subprocess.Popen([sys.executable, "-c", KILLED, tmp_path, program])


async def test_the_next_runtime_waits_for_the_installer_of_a_killed_one(tmp_path, make):
    package = model(tmp_path, "tiny_words==1.0\n")
    killed = start_to_be_killed(tmp_path, slow_installer(tmp_path))
    orphan = await until(lambda: pid_of(tmp_path))
    killed.kill()
    killed.wait()
    assert is_locked(tmp_path / "root")
    following = asyncio.create_task(make().equip(package))
    os.kill(orphan, 9)
    assert installed((await following).environment) == ["tiny_words.py"]


async def test_an_environment_nobody_needs_goes_and_one_in_use_elsewhere_stays(tmp_path, make):
    package = model(tmp_path, "tiny_words==1.0\n")
    one, other = make(), make()
    environment = (await one.equip(package)).environment
    await other.equip(package)
    await one.release(environment)
    assert environment.packages.is_dir()
    await other.release(environment)
    assert not environment.home.exists()


async def test_an_environment_that_was_deleted_by_hand_is_made_again(tmp_path, make):
    package = model(tmp_path, "tiny_words==1.0\n")
    environments = make()
    shutil.rmtree((await environments.equip(package)).environment.home)
    assert installed((await environments.equip(package)).environment) == ["tiny_words.py"]


def test_without_an_installer_the_sentence_says_what_to_install(monkeypatch, tmp_path):
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(InstallationFailed, match="put uv on the PATH"):
        find_installer({"PATH": str(tmp_path)})


def test_pips_settings_are_told_to_uv(tmp_path):
    (tmp_path / "pip.conf").write_text("[global]\nindex-url = https://a/simple\ntimeout = 7\n")
    environ = {
        "PIP_CONFIG_FILE": str(tmp_path / "pip.conf"),
        "PIP_EXTRA_INDEX_URL": "https://b/simple https://c/simple",
        "UV_HTTP_TIMEOUT": "9",
        "HOME": str(tmp_path),
    }
    told = Uv(environ, "uv").environ
    assert told["UV_DEFAULT_INDEX"] == "https://a/simple"
    assert told["UV_INDEX"] == "https://b/simple https://c/simple"
    assert told["UV_INDEX_STRATEGY"] == "unsafe-best-match"
    assert told["UV_HTTP_TIMEOUT"] == "9"


async def test_the_facts_of_an_environment_name_every_package(tmp_path, make):
    package = await make().equip(model(tmp_path, "needs_ours\n"))
    facts = json.loads((package.environment.home / "complete.json").read_text())
    assert sorted(facts["packages"]) == ["needs-ours==1.0", "tiny-words==1.0"]
