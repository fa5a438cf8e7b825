"""A model that fits into its pods once but not twice: it comes in another way, unnoticed."""

import psutil
import pytest

from flambeau_operator.session import LocalSession
from tests import archives
from tests.load import Load
from tests.processes.test_local_cluster import pids, rolled_out, until

pytestmark = [pytest.mark.process, pytest.mark.slow, pytest.mark.timeout(240)]

MEBI = 1024 * 1024
BALLAST = 300 * MEBI
HEAVY = f"""
class Echo:
    def initialize(self, context):
        self.version = context.manifest["model"]["modelVersion"]
        self.ballast = b"x" * {BALLAST}

    def handle(self, data, context):
        return [{{"version": self.version}} for _ in data]
"""


def manifest(folder, version, workers=1, limit="650Mi"):
    body = archives.manifest(folder / f"echo-{version}.mar", version, replicas=2)
    body["spec"]["models"][0]["workers"] = {"min": workers}
    body["spec"]["resources"] = {"limits": {"memory": limit}}
    body["spec"]["rollout"] = {"hot": {"keepPrevious": "0s"}}
    return body


def heaviest(deployment):
    """What the workers of the heaviest pod hold together, in bytes."""
    return max(
        sum(child.memory_info().rss for child in _children(pid))
        for pid in pids(deployment).values()
    )


def _children(pid):
    return [it for it in psutil.Process(pid).children(recursive=True) if it.is_running()]


def asked(number):
    del number
    return archives.question()


@pytest.mark.parametrize(
    ("workers", "limit", "mode"),
    [
        pytest.param(1, "650Mi", "Recreate", id="one worker: the pods take turns"),
        pytest.param(2, "1000Mi", "WorkerByWorker", id="two workers: they are exchanged"),
    ],
)
async def test_auto_takes_another_mode_and_no_request_fails(tmp_path, workers, limit, mode):
    for version in ("1.0", "2.0"):
        archives.write_archive(tmp_path, version, HEAVY)
    async with LocalSession(base_port=0) as session:
        await session.apply(manifest(tmp_path, "1.0", workers, limit))
        first = await until(session, rolled_out, 90)
        before = {pid: psutil.Process(pid).create_time() for pid in pids(first).values()}
        async with Load(first.url, asked) as load:
            await load.more(20)
            await session.apply(manifest(tmp_path, "2.0", workers, limit))
            modes, most = set(), 0

            def looks_on(deployment):
                nonlocal most
                most = max(most, heaviest(deployment))
                for model in deployment.status.get("models", ()):
                    modes.add(model["rollout"].get("mode"))
                return rolled_out(deployment)

            last = await until(session, looks_on, 120)
            await load.more(20)
        assert mode in modes
        assert "SideBySide" not in modes
        assert most < (workers + 0.7) * BALLAST
        assert set(pids(last).values()) == set(before)
    assert load.failed == []
