"""What a container of the runtime's image does with its words."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

ENTRY = Path(__file__).parents[2] / "runtime" / "image" / "entry.sh"
SERVE = "torchserve --start --foreground --ts-config /home/model-server/config.properties"


@pytest.fixture
def container(tmp_path):
    """Run the script where each command only says how it was called."""
    for name in ("flambeau-runtime", "torchserve", "nvidia-smi"):
        command = tmp_path / name
        command.write_text(f'#!/bin/sh\necho {name} "$@"\n')
        command.chmod(0o755)

    def run(*words):
        environment = {"PATH": f"{tmp_path}:/usr/bin:/bin"}
        return subprocess.check_output(["sh", ENTRY, *words], env=environment, text=True).strip()

    return run


@pytest.mark.parametrize(
    ("words", "called"),
    [
        pytest.param(["serve"], SERVE, id="serve, as TorchServe's images do"),
        pytest.param(["serve", "--models", "ALL"], f"{SERVE} --models ALL", id="serve, and flags"),
        pytest.param([], "flambeau-runtime", id="no word at all"),
        pytest.param(
            ["--inference-address", "[::]:8080"],
            "flambeau-runtime --inference-address [::]:8080",
            id="flags of our own",
        ),
        pytest.param(
            ["torchserve", "--start", "--models", "a.mar", "b.mar"],
            "torchserve --start --models a.mar b.mar --foreground",
            id="torchserve stays in the foreground, or the container would end",
        ),
        pytest.param(["nvidia-smi", "-L"], "nvidia-smi -L", id="any command"),
        pytest.param(
            ["torchserve --version && nvidia-smi"],
            "torchserve --version\nnvidia-smi",
            id="a command line in one word",
        ),
    ],
)
def test_what_is_called(container, words, called):
    assert container(*words) == called


def test_the_command_takes_the_scripts_place_and_its_exit_status():
    ended = subprocess.run(["sh", ENTRY, "sh", "-c", "exit 7"], check=False)
    assert ended.returncode == 7
