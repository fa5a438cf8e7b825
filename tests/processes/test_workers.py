"""Real worker processes: they crash, hang, exit, print and are scaled, and the version lives on."""

import asyncio
import os
import signal
from dataclasses import replace

import pytest

from flambeau_runtime.errors import (
    DeadlineExceeded,
    LoadFailed,
    ModelNotReady,
    PredictionFailed,
    WorkerLost,
)
from flambeau_runtime.serving.desired import Batching, Timeouts
from tests.processes.living import answer, gone_in_time, living, until

pytestmark = [pytest.mark.process, pytest.mark.timeout(60)]

DOES_AS_TOLD = """
    import os, signal, sys, time

    def handle(data, context):
        if data is None:
            return
        for row in data:
            told = row["body"]
            if told.get("print"):
                sys.stdout.write(told["print"] + chr(10))
            if told.get("exit") is not None:
                os._exit(told["exit"])
            if told.get("kill"):
                os.kill(os.getpid(), signal.SIGKILL)
            if told.get("raise"):
                raise ValueError(told["raise"])
            if told.get("flood"):
                line = "x" * 1023 + chr(10)
                for _ in range(told["flood"] // 1024 // 1024):
                    sys.stdout.write(line * 1024)
            time.sleep(told.get("sleep", 0))
        return [os.getpid() for _ in data]
"""


async def test_a_job_is_answered_by_a_worker_process_of_its_own(tmp_path):
    async with living(tmp_path) as (live, supervisor):
        await live.until_ready(1)
        pid = await answer(live)
        assert (pid,) == supervisor.pids()
        assert pid != os.getpid()
    assert await gone_in_time([pid])


async def test_a_job_that_comes_before_its_worker_waits_for_it(tmp_path):
    async with living(tmp_path) as (live, _):
        assert live.counts().starting == 1
        assert await answer(live)


async def test_several_workers_are_different_processes(tmp_path):
    async with living(tmp_path, workers=3) as (live, supervisor):
        await live.until_ready(3)
        assert len(set(supervisor.pids())) == 3
        assert [worker.id for worker in live.workers()] == ["9000", "9001", "9002"]
        assert all(worker.memory_bytes > 0 for worker in live.workers())


async def test_a_handler_that_raises_keeps_its_worker(tmp_path):
    async with living(tmp_path, DOES_AS_TOLD) as (live, _):
        before = await answer(live)
        with pytest.raises(PredictionFailed, match="ValueError: no such wine"):
            await answer(live, b'{"raise": "no such wine"}')
        assert await answer(live) == before


@pytest.mark.parametrize(
    "told",
    [
        pytest.param(b'{"exit": 3}', id="the handler leaves by os._exit"),
        pytest.param(b'{"kill": true}', id="the worker is killed in the middle of a batch"),
    ],
)
async def test_a_row_that_kills_workers_fails_alone_and_the_version_serves_again(tmp_path, told):
    async with living(tmp_path, DOES_AS_TOLD) as (live, _):
        first = await answer(live)
        with pytest.raises(WorkerLost):
            await answer(live, told, timeout_s=30)
        assert await answer(live) != first
        assert live.counts().restarts >= 1
        assert live.failure() is None


async def test_a_crash_names_how_the_process_ended(tmp_path):
    async with living(tmp_path, DOES_AS_TOLD, retry_on_crash=False) as (live, _):
        await live.until_ready(1)
        with pytest.raises(WorkerLost):
            await answer(live, b'{"print": "last words", "exit": 3}')
        await until(lambda: live.last_failure() is not None)
        failure = live.last_failure()
        assert failure.reason == "WorkerDied"
        assert "exit code 3" in failure.message
        assert failure.log_tail == "last words"


async def test_a_worker_killed_while_idle_is_replaced(tmp_path):
    async with living(tmp_path) as (live, supervisor):
        await live.until_ready(1)
        (pid,) = supervisor.pids()
        os.kill(pid, signal.SIGKILL)
        await until(lambda: live.counts().restarts == 1 and live.counts().ready == 1)
        assert await answer(live) != pid


async def test_a_batch_of_a_killed_worker_is_answered_by_another(tmp_path):
    async with living(tmp_path, DOES_AS_TOLD, workers=2) as (live, supervisor):
        await live.until_ready(2)
        async with asyncio.TaskGroup() as asking:
            slow = [asking.create_task(answer(live, b'{"sleep": 0.5}')) for _ in range(2)]
            await until(lambda: live.queue.outstanding == 2 and len(live.queue) == 0)
            victim = supervisor.pids()[0]
            os.kill(victim, signal.SIGKILL)
        assert victim not in [task.result() for task in slow]


async def test_a_handler_that_hangs_is_killed_and_replaced_at_once(tmp_path):
    timeouts = Timeouts(response_s=0.3, startup_s=30)
    async with living(tmp_path, DOES_AS_TOLD, timeouts=timeouts) as (live, supervisor):
        await live.until_ready(1)
        (hanging,) = supervisor.pids()
        with pytest.raises(DeadlineExceeded):
            await answer(live, b'{"sleep": 60}')
        assert await answer(live) != hanging
        assert await gone_in_time([hanging])
        assert live.last_failure() is None


@pytest.mark.parametrize(
    ("source", "reason", "message"),
    [
        pytest.param(
            "import a_module_that_nobody_has",
            "HandlerImportFailed",
            "ModuleNotFoundError: No module named 'a_module_that_nobody_has'",
            id="a handler that cannot be imported",
        ),
        pytest.param(
            """
            class Handler:
                def initialize(self, context):
                    print("reading weights")
                    raise OSError("weights.pt is missing")
                def handle(self, data, context):
                    return data
            """,
            "InitializeFailed",
            "OSError: weights.pt is missing",
            id="a handler that raises in initialize",
        ),
        pytest.param(
            "import os; print('going', flush=True); os._exit(7)",
            "WorkerDied",
            "exit code 7",
            id="a handler that ends the process while it is imported",
        ),
    ],
)
async def test_a_version_that_does_not_load_says_why_at_once(tmp_path, source, reason, message):
    async with living(tmp_path, source) as (live, _):
        with pytest.raises(LoadFailed) as caught:
            await live.until_ready(1, timeout_s=20)
        assert caught.value.reason == reason
        assert message in str(caught.value)
        assert live.failure().attempts == 1
        assert len(caught.value.log_tail) <= 2048
        assert caught.value.log_tail


async def test_a_load_that_takes_too_long_is_a_failure_of_its_own(tmp_path):
    timeouts = Timeouts(response_s=20, startup_s=0.5)
    source = "import time; time.sleep(60)"
    async with living(tmp_path, source, timeouts=timeouts) as (live, supervisor):
        with pytest.raises(LoadFailed) as caught:
            await live.until_ready(1, timeout_s=20)
        assert caught.value.reason == "StartupTimeout"
        assert await gone_in_time(supervisor.pids())


async def test_a_version_past_its_crash_budget_refuses_jobs_and_says_why(tmp_path):
    source = "raise RuntimeError('never')"
    async with living(tmp_path, source, config={"maxRetryTimeoutInSec": 0}) as (live, _):
        queued = asyncio.create_task(answer(live))
        await until(lambda: live.counts().failed == 1)
        with pytest.raises(ModelNotReady, match="RuntimeError: never"):
            await answer(live)
        with pytest.raises(ModelNotReady):
            await queued


async def test_a_version_that_failed_for_good_starts_again_when_asked(tmp_path):
    source = """
        from pathlib import Path
        if not Path("mended").exists():
            raise RuntimeError("broken")
        def handle(data, context):
            return [1 for _ in data] if data else None
    """
    async with living(tmp_path, source, config={"maxRetryTimeoutInSec": 0}) as (live, _):
        await until(lambda: live.counts().failed == 1)
        (tmp_path / "model" / "mended").touch()
        live.retry()
        assert await answer(live) == 1
        assert live.failure() is None


async def test_a_failed_load_is_tried_again_after_a_pause(tmp_path):
    source = """
        from pathlib import Path
        marks = Path("tries")
        marks.write_text(marks.read_text() + "x" if marks.exists() else "x")
        if len(marks.read_text()) < 2:
            raise RuntimeError("not yet")
        def handle(data, context):
            return [1 for _ in data] if data else None
    """
    async with living(tmp_path, source) as (live, _):
        await until(lambda: live.failure() is not None)
        assert await answer(live) == 1
        assert live.counts().restarts == 1


async def test_deaths_traced_to_one_row_do_not_spend_the_budget(tmp_path):
    config = {"maxRetryTimeoutInSec": 5}
    async with living(tmp_path, DOES_AS_TOLD, config=config, workers=2) as (live, _):
        await live.until_ready(2)
        for _ in range(3):
            with pytest.raises(WorkerLost):
                await answer(live, b'{"exit": 1}', timeout_s=30)
        await live.until_ready(2, timeout_s=20)
        assert live.counts().failed == 0


async def test_scaling_down_drains_the_newest_and_loses_nothing(tmp_path):
    async with living(tmp_path, DOES_AS_TOLD, workers=3) as (live, supervisor):
        await live.until_ready(3)
        oldest, *newer = supervisor.pids()
        async with asyncio.TaskGroup() as asking:
            jobs = [asking.create_task(answer(live, b'{"sleep": 0.1}')) for _ in range(12)]
            await until(lambda: any(job.done() for job in jobs))
            live.resize(1)
        assert {job.result() for job in jobs} <= {oldest, *newer}
        await until(lambda: supervisor.pids() == (oldest,))
        assert await gone_in_time(newer)


async def test_scaling_up_and_down_under_load_loses_nothing(tmp_path):
    async with living(tmp_path, DOES_AS_TOLD, batching=Batching(4, 0.001)) as (live, _):
        await live.until_ready(1)
        async with asyncio.TaskGroup() as asking:
            jobs = [asking.create_task(answer(live, b'{"sleep": 0.02}')) for _ in range(90)]
            for workers in (3, 1, 2):
                live.resize(workers)
                await live.until_ready(workers)
        assert all(isinstance(job.result(), int) for job in jobs)


async def test_without_workers_jobs_are_refused_and_the_next_worker_serves_again(tmp_path):
    async with living(tmp_path, DOES_AS_TOLD) as (live, supervisor):
        await live.until_ready(1)
        running = asyncio.create_task(answer(live, b'{"sleep": 0.3}'))
        await until(lambda: live.queue.outstanding == 1 and len(live.queue) == 0)
        live.resize(0)
        with pytest.raises(ModelNotReady, match="no worker"):
            await answer(live)
        assert isinstance(await running, int)
        await until(lambda: not supervisor.pids())
        live.resize(1)
        assert await answer(live)


async def test_removing_a_version_answers_what_is_queued_first(tmp_path):
    async with living(tmp_path, DOES_AS_TOLD) as (live, supervisor):
        await live.until_ready(1)
        queued = [asyncio.create_task(answer(live, b'{"sleep": 0.1}')) for _ in range(3)]
        await until(lambda: live.queue.outstanding == 3)
        removing = asyncio.create_task(supervisor.remove(live))
        await asyncio.sleep(0)
        with pytest.raises(ModelNotReady, match="unloaded"):
            await answer(live)
        assert [isinstance(pid, int) for pid in await asyncio.gather(*queued)] == [True] * 3
        await removing
        assert supervisor.pids() == ()


async def test_removing_a_version_waits_for_the_worker_that_replaces_a_dead_one(tmp_path):
    async with living(tmp_path, DOES_AS_TOLD) as (live, supervisor):
        await live.until_ready(1)
        (pid,) = supervisor.pids()
        queued = [asyncio.create_task(answer(live, b'{"sleep": 0.1}')) for _ in range(3)]
        await until(lambda: live.queue.outstanding == 3)
        os.kill(pid, signal.SIGKILL)
        await until(lambda: live.counts().ready == 0)
        removing = asyncio.create_task(supervisor.remove(live))
        assert [isinstance(told, int) for told in await asyncio.gather(*queued)] == [True] * 3
        await removing
        assert supervisor.pids() == ()


async def test_removing_a_version_kills_what_does_not_end_in_time(tmp_path):
    async with living(tmp_path, DOES_AS_TOLD) as (live, supervisor):
        await live.until_ready(1)
        pids = supervisor.pids()
        running = asyncio.create_task(answer(live, b'{"sleep": 60}'))
        waiting = asyncio.create_task(answer(live))
        await until(lambda: live.queue.outstanding == 2)
        await supervisor.remove(live, timeout_s=0.2)
        assert await gone_in_time(pids)
        outcomes = await asyncio.gather(running, waiting, return_exceptions=True)
        assert all(isinstance(outcome, (ModelNotReady, WorkerLost)) for outcome in outcomes)


async def test_changed_env_replaces_workers_one_by_one_while_jobs_are_answered(tmp_path):
    source = """
        import os
        def handle(data, context):
            return [[os.environ.get("WINE", "red")] for _ in data] if data else None
    """
    async with living(tmp_path, source, workers=2) as (live, supervisor):
        await live.until_ready(2)
        before = set(supervisor.pids())
        live.apply(replace_env(live.spec, WINE="white"))
        fewest, answers = 2, []
        while before & set(supervisor.pids()):
            answers.append(await answer(live))
            fewest = min(fewest, live.counts().ready)
        assert fewest == 2
        assert {wine for (wine,) in answers} <= {"red", "white"}
        assert await answer(live) == ["white"]


async def test_a_new_env_that_does_not_load_leaves_the_old_workers_serving(tmp_path):
    source = """
        import os
        if os.environ.get("WINE"):
            raise RuntimeError("no wine")
        def handle(data, context):
            return [["red"] for _ in data] if data else None
    """
    async with living(tmp_path, source) as (live, _):
        await live.until_ready(1)
        live.apply(replace_env(live.spec, WINE="white"))
        await until(lambda: live.last_failure() is not None)
        assert await answer(live) == ["red"]
        assert live.failure() is None
        live.apply(replace_env(live.spec))
        await until(lambda: live.last_failure() is None and len(live.workers()) == 1)
        assert await answer(live) == ["red"]


def replace_env(spec, **env):
    return replace(spec, env=env)


async def test_what_a_worker_prints_is_kept_and_a_flood_does_not_hold_up_the_front(tmp_path):
    async with living(tmp_path, DOES_AS_TOLD) as (live, _):
        await live.until_ready(1)
        flooding = asyncio.create_task(answer(live, b'{"flood": 1073741824, "print": "x"}'))
        loop, longest = asyncio.get_running_loop(), 0.0
        while not flooding.done():
            began = loop.time()
            await asyncio.sleep(0.001)
            longest = max(longest, loop.time() - began)
        assert await flooding
        assert longest < 1
        await answer(live, b'{"print": "the end"}')
        await until(lambda: live.log_tail().endswith("the end"))
        assert len(live.log_tail()) <= 2048


async def test_a_worker_runs_in_its_models_directory_with_its_share_of_threads(tmp_path):
    source = """
        import os
        def handle(data, context):
            names = ("OMP_NUM_THREADS", "OMP_WAIT_POLICY", "PYTHONPATH", "CUDA_VISIBLE_DEVICES")
            got = [os.environ.get(name) for name in names]
            return [[os.getcwd(), *got, context.system_properties["gpu_id"]]] if data else None
    """
    async with living(tmp_path, source, devices=(0, 1), workers=2) as (live, _):
        await live.until_ready(2)
        folder = str(tmp_path / "model")
        cwd, threads, policy, path, visible, gpu = await answer(live)
        assert (cwd, policy, gpu) == (folder, "PASSIVE", 0)
        assert int(threads) >= 1
        assert path.split(":")[0] == folder
        assert visible in {"0", "1"}
        assert [worker.device for worker in live.workers()] == [0, 1]


async def test_a_model_may_have_files_named_like_modules_of_the_standard_library(tmp_path):
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "types.py").write_text("raise RuntimeError('not yours')")
    async with living(tmp_path) as (live, _):
        assert await answer(live)


async def test_what_a_handler_started_dies_with_its_worker(tmp_path):
    source = """
        import subprocess
        child = subprocess.Popen(["sleep", "600"])
        def handle(data, context):
            return [child.pid for _ in data] if data else None
    """
    async with living(tmp_path, source) as (live, supervisor):
        sleeper = await answer(live)
        os.kill(supervisor.pids()[0], signal.SIGKILL)
        assert await gone_in_time([sleeper])
        assert await answer(live) != sleeper


async def test_an_error_in_the_front_kills_workers_at_once_and_stays_itself(tmp_path):
    left = []

    async def serve():
        async with living(tmp_path, DOES_AS_TOLD) as (live, supervisor):
            await live.until_ready(1)
            left.extend(supervisor.pids())
            left.append(asyncio.create_task(answer(live, b'{"sleep": 60}')))
            await until(lambda: live.queue.outstanding == 1 and len(live.queue) == 0)
            raise KeyError("a mistake")

    with pytest.raises(KeyError, match="a mistake"):
        await serve()
    pid, hanging = left
    assert await gone_in_time([pid])
    with pytest.raises((ModelNotReady, WorkerLost)):
        await hanging


async def test_leaving_while_a_worker_starts_leaves_nothing_behind(tmp_path):
    async with living(tmp_path, "import time; time.sleep(60)") as (live, supervisor):
        await until(lambda: supervisor.pids() and live.workers()[0].state == "Loading")
        pids = supervisor.pids()
    assert await gone_in_time(pids)


async def test_leaving_can_be_cut_short(tmp_path):
    started = asyncio.Event()
    pids = []

    async def serve():
        async with living(tmp_path, DOES_AS_TOLD) as (live, supervisor):
            await live.until_ready(1)
            pids.extend(supervisor.pids())
            asking.append(asyncio.create_task(answer(live, b'{"sleep": 60}')))
            await until(lambda: live.queue.outstanding == 1 and len(live.queue) == 0)
            started.set()

    asking = []
    serving = asyncio.create_task(serve())
    await started.wait()
    await asyncio.sleep(0.05)
    serving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await serving
    assert await gone_in_time(pids)
    await asyncio.gather(*asking, return_exceptions=True)
