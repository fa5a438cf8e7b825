"""A Dockerfile written for TorchServe's image builds on ours with another FROM, and serves."""

from __future__ import annotations

import json
import secrets
import zipfile
from pathlib import Path

import pytest

from e2e.cluster import stock
from e2e.images import build
from e2e.images.recipes import RUNTIME_TORCH, Theirs

# The first run on a machine builds Kubernetes and the images.
pytestmark = pytest.mark.timeout(3600)

NAME = "localhost/my-torchserve:v1"
# As guides write it, down to the last line; only FROM names another image.
DOCKERFILE = f"""\
FROM {RUNTIME_TORCH.name}
COPY model_store /home/model-server/model-store
COPY config.properties /home/model-server/config.properties
COPY greeting-1.0-py3-none-any.whl /tmp/
RUN pip install --no-index /tmp/greeting-1.0-py3-none-any.whl
USER root
RUN touch /etc/changed-by-root
USER model-server
ENV TS_CONFIG_FILE=/home/model-server/config.properties
EXPOSE 8080 8081 8082
CMD ["torchserve", \\
     "--start", \\
     "--model-store", "/home/model-server/model-store", \\
     "--models", "classifier=classifier.mar", \\
     "--foreground"]
"""
CONFIG = """\
inference_address=http://0.0.0.0:8080
management_address=http://0.0.0.0:8081
metrics_address=http://0.0.0.0:8082
model_store=/home/model-server/model-store
number_of_netty_threads=4
default_workers_per_model=1
"""
HANDLER = """
import greeting
import torch

def handle(data, context):
    return data and [{"says": greeting.WORD, "sum": int(torch.ones(3).sum())} for _ in data]
"""
# Asks the server beside it, as a shell in the container would with curl.
ASK = """
import urllib.request
url = "http://127.0.0.1:8080/predictions/classifier"
print(urllib.request.urlopen(url, data=b"{}").read().decode())
"""


def _write_context(folder: Path) -> None:
    (folder / "Dockerfile").write_text(DOCKERFILE)
    (folder / "config.properties").write_text(CONFIG)
    (folder / "model_store").mkdir()
    model = {"modelName": "classifier", "modelVersion": "1.0", "handler": "handler.py"}
    with zipfile.ZipFile(folder / "model_store" / "classifier.mar", "w") as archive:
        archive.writestr("MAR-INF/MANIFEST.json", json.dumps({"runtime": "python", "model": model}))
        archive.writestr("handler.py", HANDLER)
    about = "greeting-1.0.dist-info"
    with zipfile.ZipFile(folder / "greeting-1.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr("greeting.py", "WORD = 'ahoy'\n")
        wheel.writestr(f"{about}/METADATA", "Metadata-Version: 2.1\nName: greeting\nVersion: 1.0\n")
        wheel.writestr(f"{about}/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        wheel.writestr(f"{about}/RECORD", "")


@pytest.fixture(scope="module")
def namespace(cluster, tmp_path_factory):
    """A namespace on a cluster that has the image."""
    folder = tmp_path_factory.mktemp("guide")
    context = folder / "context"
    context.mkdir()
    _write_context(context)
    build.build_upon(print, RUNTIME_TORCH, Theirs(NAME, context), folder / "image.tar")
    cluster.load(folder / "image.tar")
    (folder / "image.tar").unlink()
    name = f"guide-{secrets.token_hex(4)}"
    cluster.run("create", "namespace", name)
    yield name
    cluster.run("delete", "namespace", name, "--wait=false")


def _run(cluster, namespace, name, arguments=()):
    """Start a container as the guide's Deployment does, and wait until its probe is content."""
    container = {
        "name": "torchserve",
        "image": NAME,
        "imagePullPolicy": "Never",
        "args": list(arguments),
        "readinessProbe": {"httpGet": {"path": "/ping", "port": 8080}, "periodSeconds": 1},
        "securityContext": {**stock.RESTRICTED, "readOnlyRootFilesystem": False},
    }
    spec = {"restartPolicy": "Never", "containers": [container]}
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec}
    cluster.run("-n", namespace, "apply", "-f", "-", given=json.dumps(pod))
    ready = [f"pod/{name}", "--for=condition=Ready", "--timeout=120s"]
    cluster.run("-n", namespace, "wait", *ready, timeout_s=130)


def test_it_serves_with_the_packages_that_it_adds(cluster, namespace):
    _run(cluster, namespace, "asked")
    said = cluster.run("-n", namespace, "exec", "asked", "--", "python", "-c", ASK)
    assert json.loads(said) == {"says": "ahoy", "sum": 3}
    lines = cluster.run("-n", namespace, "logs", "asked")
    assert "Model server started." in lines.splitlines()


@pytest.mark.parametrize(
    "arguments",
    [
        pytest.param(["serve", "--models", "ALL"], id="the word serve"),
        pytest.param(
            ["torchserve", "--start", "--model-store", "/home/model-server/model-store"],
            id="torchserve, which would leave the foreground",
        ),
    ],
)
def test_other_words_serve_too(cluster, namespace, arguments):
    _run(cluster, namespace, f"words-{secrets.token_hex(2)}", arguments)
