"""A version that cannot be served touches one runtime, and harms no request."""

import asyncio
import hashlib

import pytest

from flambeau_operator.session import LocalSession
from tests import archives
from tests.load import Load
from tests.up_command import condition, is_rolled_out

pytestmark = [pytest.mark.process, pytest.mark.timeout(120)]


def cut_short(folder):
    archive = archives.write_archive(folder, "2.0")
    archive.write_bytes(archive.read_bytes()[:-120])
    return archives.manifest(archive, "2.0")


def of_another_digest(folder):
    digest = "sha256:" + hashlib.sha256(b"something else").hexdigest()
    return archives.manifest(archives.write_archive(folder, "2.0"), "2.0", digest=digest)


def with_handler(source):
    return lambda folder: archives.manifest(archives.write_archive(folder, "2.0", source), "2.0")


BAD_VERSIONS = [
    pytest.param(cut_short, "ArchiveInvalid", "", "", id="an archive that was cut short"),
    pytest.param(of_another_digest, "DigestMismatch", "sha256:", "", id="another sha256"),
    pytest.param(
        with_handler(archives.RAISES_ON_IMPORT),
        "HandlerImportFailed",
        "a_module_that_nobody_has",
        "about to import what is not there",
        id="a handler that raises on import",
    ),
    pytest.param(
        with_handler(archives.RAISES_IN_INITIALIZE),
        "InitializeFailed",
        "the weights do not fit",
        "about to load the weights",
        id="a handler that raises in initialize",
    ),
]


def told(session):
    """Return the one deployment as `is_rolled_out` and `condition` read it."""
    seen = session.observe()[0]
    return {"generation": seen.generation, "status": seen.status}


def is_rolled_back(seen):
    return seen["status"]["models"][0]["phase"] == "RolledBack"


async def until(session, true_of, within_s=60):
    async with asyncio.timeout(within_s):
        while not true_of(told(session)):
            await session.wait_change()
    return told(session)["status"]


def who_heard_of(session, version):
    """Return the pods whose logs name a version."""
    pods = session.observe()[0].pods
    return {pod.name for pod in pods if f'"version": "{version}"' in pod.log_file.read_text()}


@pytest.mark.parametrize(("bad_version", "reason", "message", "log_line"), BAD_VERSIONS)
async def test_a_bad_version_touches_one_runtime_and_the_old_one_serves_on(
    tmp_path, bad_version, reason, message, log_line
):
    good = archives.manifest(archives.write_archive(tmp_path, "1.0"), "1.0")
    async with LocalSession(base_port=0) as session:
        await session.apply(good)
        await until(session, lambda seen: is_rolled_out(seen, "1.0"))
        url = session.observe()[0].url
        assert len(who_heard_of(session, "1.0")) == 2
        async with Load(url, lambda _: archives.question()) as load:
            await load.more(50)
            await session.apply(bad_version(tmp_path))
            status = await until(session, is_rolled_back)
            heard = who_heard_of(session, "2.0")
            await load.more(50)
            await session.apply(good)
            cleared = await until(session, lambda seen: not condition(seen, "Stalled"))
            await load.more(50)

    assert not load.failed, load.failed[:3]
    assert set(load.words) == {"1.0"}
    assert_told_with_reason(status, reason, message, log_line)
    failure = status["models"][0]["rollout"]["lastFailure"]
    assert heard == {failure["pod"]}
    assert condition({"status": cleared}, "RolledOut")["status"] == "True"
    assert "lastFailure" not in cleared["models"][0]["rollout"]


def assert_told_with_reason(status, reason, message, log_line):
    seen = {"status": status}
    assert condition(seen, "Ready")["status"] == "True"
    assert condition(seen, "RolledOut")["status"] == "False"
    assert condition(seen, "Stalled")["reason"] == "RolledBack"
    (model,) = status["models"]
    assert (model["activeVersion"], model["targetVersion"]) == ("1.0", "2.0")
    failure = model["rollout"]["lastFailure"]
    assert failure["reason"] == reason
    assert message in failure["message"]
    assert log_line in failure["logTail"]
