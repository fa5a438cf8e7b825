"""Walk a guide: run its printed blocks, untouched and in order, through the real commands.

Runs as root of namespaces of its own (see test_guide.py), because the ports of the guide and its
/home/model-server are fixed. Prints one line per step; ends non-zero with the step that failed.

Not run: installing packages and Java (ours is installed, Java is not needed), docker itself (the
command line of the image is run instead), the Kubernetes manifest (its probes are).
"""

import ast
import fcntl
import json
import os
import re
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
import urllib.request
from contextlib import contextmanager
from pathlib import Path

from tests.compat.guide import Block, Guide

LABELS = {"0": "red", "1": "green", "2": "blue"}
INSTALLERS = ("sudo apt-get", "brew ", "pip install", "docker ")
SIOCSIFFLAGS, IFF_UP = 0x8914, 1


def main() -> None:
    """Walk the guide given as first argument, in the folder given as second."""
    guide, folder = Guide(Path(sys.argv[1])), Path(sys.argv[2])
    raise_loopback()
    provide_home()
    os.chdir(folder)
    prepare_the_model(guide)
    archive(guide)
    configure_and_start(guide)
    predict_and_manage(guide)
    run_the_image_command(guide)
    optimise(guide)
    mixed_precision(guide)
    say("the guide works as printed")


def say(step: str) -> None:
    print(step, flush=True)  # noqa: T201  a program of its own, its output is the report


def run(command: str, timeout_s: float = 120) -> str:
    """Run one printed command in a shell and return what it printed; fail if it fails.

    Into a file: a server in the background goes on writing where it was started, and a pipe would
    only end with it.
    """
    with tempfile.TemporaryFile("w+") as printed, tempfile.TemporaryFile("w+") as errors:
        done = subprocess.run(
            ["/bin/bash", "-c", command],
            check=False,
            stdin=subprocess.DEVNULL,
            stdout=printed,
            stderr=errors,
            timeout=timeout_s,
        )
        printed.seek(0)
        errors.seek(0)
        said, complained = printed.read(), errors.read()
    assert done.returncode == 0, f"{command}\n{said}{complained}"
    say(f"ok: {' '.join(command.split())[:90]}")
    return said


def run_python(block: Block) -> str:
    """Run one printed Python block as a script and return what it printed."""
    script = Path("script.py")  # a file: TorchScript reads the source of what it compiles
    script.write_text(block.text)
    done = subprocess.run(
        [sys.executable, script], check=False, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, f"{block.text}\n{done.stdout}{done.stderr}"
    say(f"ok: the Python block under {block.heading!r}")
    return done.stdout


def prepare_the_model(guide: Guide) -> None:
    for command in guide.one("bash", "torchserve --version").commands():
        if not command.startswith(INSTALLERS):
            assert "0." in run(command)
    block = guide.one("python", "torch.jit.script")
    run_python(block)
    # The guide archives a model.py that it leaves to its reader: the class of that block.
    parts = ast.parse(block.text).body
    wanted = [p for p in parts if isinstance(p, ast.Import | ast.ImportFrom | ast.ClassDef)]
    Path("model.py").write_text(ast.unparse(ast.Module(wanted, [])))
    Path("index_to_name.json").write_text(json.dumps(LABELS))
    handler = guide.one("python", "# handler.py")
    Path("handler.py").write_text(handler.text)


def archive(guide: Guide) -> None:
    """Run every archiver call; they are alternatives for one file, so each starts without it."""
    archives = Path("model_store/classifier.mar")
    for block in guide.all("bash", "torch-model-archiver \\"):
        for command in block.commands():
            archives.unlink(missing_ok=True)
            run(command)
            assert archives.exists(), command


def configure_and_start(guide: Guide) -> None:
    Path("config.properties").write_text(guide.one("properties", "config.properties").text)
    for command in guide.one("bash", "torchserve --start").commands():
        printed = run(command)
        if "/ping" in command:
            assert json.loads(printed) == {"status": "Healthy"}
    assert not listening(8080), "torchserve --stop must not return before the port is free"


def predict_and_manage(guide: Guide) -> None:
    start, *_, stop = guide.one("bash", "torchserve --start").commands()
    run(start)
    predict(guide)
    metrics(guide)
    manage(guide)
    run(stop)


def predict(guide: Guide) -> None:
    printed = run_python(guide.one("python", "requests.post")).splitlines()
    single, batch = ast.literal_eval(printed[0]), ast.literal_eval(printed[1])
    assert isinstance(batch, list), printed
    assert len(batch) == 2, printed
    for answer in [single, *batch]:
        assert answer["predicted_class"] in (0, 1, 2), printed
        assert answer["class_name"] == LABELS[str(answer["predicted_class"])], printed
        assert abs(sum(answer["probabilities"]) - 1) < 1e-4, printed
    # Rows of a batch are multiplied together: the last digits may differ.
    assert batch[0]["predicted_class"] == single["predicted_class"], printed
    for one, other in zip(batch[0]["probabilities"], single["probabilities"], strict=True):
        assert abs(one - other) < 1e-5, printed


def manage(guide: Guide) -> None:
    answers = {
        "/models": lambda body: body["models"][0]["modelName"] == "classifier",
        "/models/classifier": lambda body: body[0]["workers"][0]["status"] == "READY",
        "url=classifier.mar": lambda body: "registered" in body["status"],
        "min_worker=2": lambda body: body["status"] == "Processing worker updates...",
        "set-default": lambda body: "Default version successfully" in body["status"],
        "-X DELETE": lambda body: body["status"] == 'Model "classifier" unregistered',
    }
    commands = guide.one("bash", "set-default").commands()
    assert len(commands) == len(answers)
    for command, right in zip(commands, answers.values(), strict=True):
        printed = run(command)
        assert right(json.loads(printed)), f"{command}\n{printed}"


def metrics(guide: Guide) -> None:
    with urllib.request.urlopen("http://127.0.0.1:8082/metrics") as answer:
        page = answer.read().decode()
    for line in guide.one("promql", "ts_").text.splitlines():
        for name, label in re.findall(r"(ts_\w+)(\{[^}]*\})?", line.split("#")[0]):
            assert name in page, f"{name} is not on the metrics page"
            if label:
                pattern = re.escape(name) + r"\{[^}]*" + re.escape(label.strip("{}"))
                assert re.search(pattern, page), f"{name}{label} is not on the metrics page"
    say("ok: every metric of the guide is on port 8082")


def run_the_image_command(guide: Guide) -> None:
    """Do what the Dockerfile does, without docker: COPY, ENV, CMD."""
    text = guide.one("dockerfile", "FROM").text.replace("\\\n", " ")
    for source, target in re.findall(r"^COPY (\S+) (\S+)$", text, re.MULTILINE):
        copy = shutil.copytree if Path(source).is_dir() else shutil.copy
        copy(source, target)
    environment = dict(re.findall(r"^ENV (\w+)=(\S+)$", text, re.MULTILINE))
    (command,) = re.findall(r"^CMD (\[.*\])$", text, re.MULTILINE)
    with foreground(json.loads(command), environment):
        with urllib.request.urlopen("http://127.0.0.1:8080/ping") as answer:
            assert answer.status == 200, "the manifest's probes would fail"
        predict(guide)
        metrics(guide)
        manage(guide)


@contextmanager
def foreground(command: list[str], environment: dict[str, str]):
    """Run a server until the block ends; it must stop in good order."""
    # The image that the guide builds on starts in this folder, which its user owns; `/` is root's.
    home = "/home/model-server"
    process = subprocess.Popen(command, env={**os.environ, **environment}, cwd=home)
    deadline = time.monotonic() + 60
    while not listening(8080):
        assert process.poll() is None, f"{command} ended with {process.returncode}"
        assert time.monotonic() < deadline, f"{command} does not listen"
        time.sleep(0.05)
    yield
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=30) == 0
    say(f"ok: {' '.join(command)[:90]}")


def optimise(guide: Guide) -> None:
    run_python(guide.one("python", "optimize_for_inference"))
    Path("model_scripted.pt").unlink()
    Path("model_optimized.pt").rename("model_scripted.pt")
    serve_the_last_archiver_call(guide)


def mixed_precision(guide: Guide) -> None:
    """Put the printed method into the printed handler, archive it and ask it."""
    (method,) = ast.parse(guide.one("python", "autocast").text).body
    module = ast.parse(guide.one("python", "# handler.py").text)
    (handler,) = [part for part in module.body if isinstance(part, ast.ClassDef)]
    handler.body = [method if getattr(p, "name", "") == method.name else p for p in handler.body]
    Path("handler.py").write_text(ast.unparse(ast.fix_missing_locations(module)))
    serve_the_last_archiver_call(guide)


def serve_the_last_archiver_call(guide: Guide) -> None:
    Path("model_store/classifier.mar").unlink()
    run(guide.all("bash", "torch-model-archiver \\")[-1].commands()[-1])
    start, *_, stop = guide.one("bash", "torchserve --start").commands()
    run(start)
    printed = run_python(guide.one("python", "requests.post")).splitlines()
    assert "predicted_class" in ast.literal_eval(printed[0]), printed
    run(stop)


def listening(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def raise_loopback() -> None:
    """Bring up `lo` of this network namespace (netdevice(7))."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        fcntl.ioctl(any_socket, SIOCSIFFLAGS, struct.pack("16sh", b"lo", IFF_UP))


def provide_home() -> None:
    """Make /home/model-server in this mount namespace, with all else of /home where it was."""
    script = """
    set -e
    old=$(mktemp -d)
    mount --rbind /home "$old"
    mount -t tmpfs none /home
    for entry in "$old"/*; do
        [ -d "$entry" ] || continue
        mkdir "/home/$(basename "$entry")"
        mount --rbind "$entry" "/home/$(basename "$entry")"
    done
    umount -l "$old" && rmdir "$old"
    mkdir -p /home/model-server
    """
    subprocess.run(["/bin/sh", "-c", script], check=True)


if __name__ == "__main__":
    main()
