"""The guide's way from a model to a managed server, with our own example, on ports of its own."""

import json
import os
import socket
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
import requests

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = ROOT / "examples" / "classifier"
BIN = Path(sys.executable).parent
pytestmark = [pytest.mark.process, pytest.mark.timeout(180)]


@dataclass(frozen=True)
class Server:
    """A torchserve started as the guide starts it."""

    inference: str
    management: str
    metrics: str


def free_ports(count):
    sockets = [socket.socket() for _ in range(count)]
    for taken in sockets:
        taken.bind(("127.0.0.1", 0))
    ports = [taken.getsockname()[1] for taken in sockets]
    for taken in sockets:
        taken.close()
    return ports


@pytest.fixture(scope="module")
def workplace(tmp_path_factory):
    """A folder with the example's archive in a model store, and its held-out rows."""
    folder = tmp_path_factory.mktemp("guide")
    subprocess.run([sys.executable, EXAMPLE / "train.py", folder], check=True, capture_output=True)
    command = [BIN / "torch-model-archiver", "--model-name", "wine", "--version", "1.0"]
    command += ["--serialized-file", "model-1.0.pt", "--handler", EXAMPLE / "handler.py"]
    command += [
        "--extra-files",
        EXAMPLE / "labels" / "index_to_name.json",
        "--export-path",
        "store",
    ]
    subprocess.run(command, check=True, cwd=folder)
    return folder


@pytest.fixture(scope="module")
def server(workplace):
    inference, management, metrics = free_ports(3)
    lines = [
        f"inference_address=http://127.0.0.1:{inference}",
        f"management_address=http://127.0.0.1:{management}",
        f"metrics_address=http://127.0.0.1:{metrics}",
        "grpc_inference_port=0",
        "grpc_management_port=0",
        "default_workers_per_model=1",
        "job_queue_size=100",
        "enable_batch=true",
        "batch_size=8",
        "max_batch_delay=20",
    ]
    (workplace / "config.properties").write_text("\n".join(lines))
    environment = {**os.environ, "TMPDIR": str(workplace)}
    start = [BIN / "torchserve", "--start", "--model-store", "store"]
    start += ["--models", "wine=wine.mar", "--ts-config", "config.properties"]
    subprocess.run(start, check=True, cwd=workplace, env=environment, timeout=60)
    yield Server(*(f"http://127.0.0.1:{port}" for port in (inference, management, metrics)))
    subprocess.run([BIN / "torchserve", "--stop"], check=True, cwd=workplace, env=environment)
    with pytest.raises(requests.ConnectionError):
        requests.get(f"http://127.0.0.1:{inference}/ping", timeout=5)


@pytest.fixture(scope="module")
def rows(workplace):
    return json.loads((workplace / "held_out.json").read_text())


def test_it_is_healthy_on_the_line_after_its_start(server):
    assert requests.get(f"{server.inference}/ping", timeout=5).json() == {"status": "Healthy"}


def test_one_object_gets_one_prediction(server, rows):
    answer = requests.post(f"{server.inference}/predictions/wine", json=rows[0], timeout=30)
    assert answer.json()["probabilities"] == pytest.approx(
        rows[0]["probabilities"]["1.0"], abs=1e-4
    )


def test_a_list_of_objects_gets_a_list_of_predictions(server, rows):
    answer = requests.post(f"{server.inference}/predictions/wine", json=rows[:20], timeout=30)
    got = [row["probabilities"] for row in answer.json()]
    assert got == [pytest.approx(row["probabilities"]["1.0"], abs=1e-4) for row in rows[:20]]


def test_the_batch_keys_of_config_properties_are_honoured(server):
    (description,) = requests.get(f"{server.management}/models/wine", timeout=5).json()
    assert (description["batchSize"], description["maxBatchDelay"]) == (8, 20)


def test_the_metrics_page_has_the_names_the_guide_asks_for(server, rows):
    requests.post(f"{server.inference}/predictions/wine", json=rows[0], timeout=30)
    page = requests.get(f"{server.metrics}/metrics", timeout=5).text
    for name in (
        'ts_inference_requests_total{model_name="wine"',
        "ts_inference_latency_ms_bucket{",
        "ts_queue_latency_ms_bucket{",
        "ts_gpu_memory_used_bytes",
        'ts_model_workers{model_name="wine"',
    ):
        assert name in page


def test_a_second_name_scaling_default_and_unregistering(server, rows):
    models = f"{server.management}/models"
    new = requests.post(f"{models}?url=wine.mar&model_name=wine_v2", timeout=60)
    assert new.json()["status"].startswith('Model "wine_v2" Version: 1.0 registered with 1 initial')
    scaled = requests.put(f"{models}/wine_v2?min_worker=2&synchronous=true", timeout=60)
    assert scaled.json()["status"] == "Workers scaled to 2 for model: wine_v2"
    (description,) = requests.get(f"{models}/wine_v2", timeout=5).json()
    assert [worker["status"] for worker in description["workers"]] == ["READY", "READY"]
    assert requests.put(f"{models}/wine_v2/1.0/set-default", timeout=5).status_code == 200
    answer = requests.post(f"{server.inference}/predictions/wine_v2", json=rows[1], timeout=30)
    assert answer.status_code == 200
    assert requests.delete(f"{models}/wine_v2", timeout=30).status_code == 200
    gone = requests.post(f"{server.inference}/predictions/wine_v2", json=rows[1], timeout=5)
    assert gone.json()["type"] == "ModelNotFoundException"
