"""Where models live, what a worker sees of the devices, and what is told of them."""

from __future__ import annotations

import io
import json
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest
import torch

from tests.compat.server import until
from tests.compat.ts import new_place, ours
from tests.gpu.facts import MEBI, ON_DEVICE, SAYS_WHERE, SMALL_NET, asked, device_used
from tests.torch_models import eager

pytestmark = [pytest.mark.gpu, pytest.mark.process, pytest.mark.timeout(240)]

IMAGES = torch.randn(3, 3, 16, 16, generator=torch.Generator().manual_seed(3))
TF32 = {"rtol": 1e-2, "atol": 5e-3}
"""A handler's device computes in TF32, as with TorchServe: ten bits of fraction."""


@contextmanager
def a_server():
    place = new_place(ours())
    try:
        with place.serving() as server:
            yield server
    finally:
        place.clear()


@pytest.fixture(scope="module")
def server():
    with a_server() as server:
        yield server


@pytest.fixture(scope="module")
def net():
    return eager(SMALL_NET)


def script_bytes(script):
    file = io.BytesIO()
    torch.jit.save(script, file)
    return file.getvalue()


def check_answers(server, model, net, device="cuda:0"):
    answers = [server.predict(model, json.dumps(it.tolist()).encode()).json for it in IMAGES]
    assert {it["device"] for it in answers} == {device}
    with torch.inference_mode():
        torch.testing.assert_close(
            torch.tensor([it["scores"] for it in answers]), net.model(IMAGES), **TF32
        )


def test_an_eager_model_is_on_the_gpu_and_answers_as_on_the_cpu(server, net):
    with server.registered(
        ON_DEVICE, files=net.files, modelFile="model.py", serializedFile="weights.pt"
    ) as model:
        check_answers(server, model, net)


@pytest.mark.filterwarnings("ignore:.*torch.jit")
def test_a_torchscript_model_is_on_the_gpu_and_answers_as_on_the_cpu(server, net):
    files = {"model.pt": script_bytes(torch.jit.trace(net.model, IMAGES))}
    with server.registered(ON_DEVICE, files=files, serializedFile="model.pt") as model:
        check_answers(server, model, net)


def test_a_compiled_model_answers_as_on_the_cpu(server, net):
    config = "pt2: {compile: {enable: true, backend: inductor}}\nresponseTimeout: 200"
    with server.registered(
        ON_DEVICE, files=net.files, modelFile="model.py", serializedFile="weights.pt", config=config
    ) as model:
        check_answers(server, model, net)


def test_a_model_for_the_cpu_stays_on_the_cpu(server, net):
    with server.registered(
        ON_DEVICE,
        files=net.files,
        modelFile="model.py",
        serializedFile="weights.pt",
        config="deviceType: cpu",
    ) as model:
        check_answers(server, model, net, device="cpu")
        [worker] = server.workers(model)
        assert (worker["gpu"], worker["gpuUsage"]) == (False, "N/A")


def told_by_each(server, model, count):
    """Ask until so many workers have answered; return what each said of itself."""
    told = {}

    def all_have_answered():
        for answer in pool.map(lambda _: server.predict(model).json, range(4 * count)):
            told[answer["pid"]] = answer
        return len(told) == count

    with ThreadPoolExecutor(4 * count) as pool:  # one at a time, one worker would answer them all
        until(all_have_answered)
    return list(told.values())


def test_two_workers_share_one_gpu_and_a_handler_may_say_just_cuda(server):
    with server.registered(SAYS_WHERE, workers=2) as model:
        for told in told_by_each(server, model, 2):
            assert (told["visible"], told["gpu_id"], told["device"]) == ("0", 0, "cuda:0")
            assert (told["count"], told["sum"]) == (1, 1024.0)


def test_a_model_of_the_cpu_sees_no_gpu(server):
    code = """
        import torch
        def handle(data, context):
            return [torch.cuda.is_available() for _ in data or []]
    """
    with server.registered(code, config="deviceType: cpu") as model:
        assert server.predict(model).json is False


def test_a_description_says_how_the_workers_gpu_is_used(server):
    with server.registered(SAYS_WHERE) as model:
        description = server.describe(model)
        [worker] = description["workers"]
    assert (description["deviceType"], worker["gpu"]) == ("gpu", True)
    assert worker["gpuUsage"].startswith("gpuId::0 utilization.gpu [%]::")
    used = int(worker["gpuUsage"].rpartition("memory.used [MiB]::")[2].removesuffix(" MiB"))
    assert used > 100


def gauge(page, name):
    [line] = [it for it in page.splitlines() if it.startswith(f"{name}{{")]
    return float(line.rpartition(" ")[2])


def test_the_page_of_metrics_has_what_is_in_use_on_the_gpu(server):
    with server.registered(SAYS_WHERE):
        page = server.metrics().text
        used = gauge(page, "ts_gpu_memory_used_bytes")
        assert used == pytest.approx(device_used(), abs=256 * MEBI)
        assert gauge(page, "GPUMemoryUsed") == pytest.approx(used / MEBI)
        total = int(asked("-i", "0", "--query-gpu=memory.total")[0])
        assert gauge(page, "GPUMemoryUtilization") == pytest.approx(100 * used / MEBI / total)
        assert 0 <= gauge(page, "GPUUtilization") <= 100


def test_the_memory_of_a_worker_on_the_gpu_is_free_when_its_model_is_gone(server):
    before = device_used()
    code = SAYS_WHERE.replace("torch.ones(1024", "torch.ones(1 << 29")  # 2 GiB
    with server.registered(code) as model:
        assert server.predict(model).json["sum"] == float(1 << 29)
        assert device_used() - before > 2048 * MEBI
    until(lambda: device_used() - before < 512 * MEBI)


def test_what_cuda_has_no_room_for_is_an_answer_and_the_worker_stays(server):
    code = """
        import os, torch
        def handle(data, context):
            if data is not None:
                sizes = [row["body"].get("size", 1) for row in data]
                return [torch.empty(it, device="cuda").numel() and os.getpid() for it in sizes]
    """
    with server.registered(code) as model:
        before = server.predict(model).json
        answer = server.predict(model, b'{"size": 35184372088832}')
        assert answer.status == 507
        assert "out of memory" in answer.text
        assert server.predict(model).json == before
