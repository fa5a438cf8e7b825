"""Handlers that break their contract or their process: a clear answer, and nobody else hurt.

A healthy model in the same runtime is asked all the while and has to answer everything.
"""

import os
import threading
import time
from pathlib import Path
from textwrap import dedent, indent

import pytest

from tests.compat.server import serving, until, write_archive

pytestmark = [pytest.mark.process, pytest.mark.timeout(60)]

CONFIG = "responseTimeout: 1\nstartupTimeout: 15\nminWorkers: 1\nmaxWorkers: 1\n"
LONGEST_WAIT_S = 5.0


class Bystander:
    """Asks the healthy model again and again."""

    def __init__(self, server):
        self.server = server
        self.failed = []
        self.longest_s = 0.0
        self.answered = 0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *error):
        self._over.set()
        self._thread.join()

    def _run(self):
        while not self._over.wait(0.01):
            began = time.monotonic()
            try:
                answer = self.server.predict("healthy")
            except OSError as error:
                self.failed.append(repr(error))
            else:
                self.answered += 1
                if answer.status != 200:
                    self.failed.append((answer.status, answer.body))
            self.longest_s = max(self.longest_s, time.monotonic() - began)


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    folder = tmp_path_factory.mktemp("a folder with spaces")
    write_archive(folder / "store", "healthy", config="minWorkers: 1\nmaxWorkers: 1\n")
    with serving(folder, "--models", "ALL") as running:
        until(lambda: running.predict("healthy").status == 200)
        yield running


@pytest.fixture
def bystander(server):
    with Bystander(server) as asking:
        yield asking
    assert asking.failed == []
    assert asking.answered
    assert asking.longest_s < LONGEST_WAIT_S


@pytest.fixture
def register(server):
    """Register a handler of these lines, which see `data` and `context`; take it back later."""
    registered = []

    def add(lines, before="", config=CONFIG, name="bad"):
        source = dedent(before) + "\nimport os, signal, sys, threading, time\n"
        source += "def handle(data, context):\n    if data is None:\n        return None\n"
        source += indent(dedent(lines), "    ")
        store = server.output.parent / "store"
        url = write_archive(store, name, handler=source, config=config)
        registered.append(name)
        return server.manage("POST", f"/models?url={url}")

    yield add
    for name in registered:
        server.manage("DELETE", f"/models/{name}")


BROKEN_CONTRACTS = [
    pytest.param("return []", 503, "returned 0 results for 1 requests", id="too few results"),
    pytest.param("return [1, 2]", 503, "returned 2 results for 1", id="too many results"),
    pytest.param("return None", 503, "this one returned NoneType", id="nothing"),
    pytest.param("return ('a',)", 503, "this one returned tuple", id="a tuple"),
    pytest.param("raise KeyError('x')", 503, "KeyError: 'x'", id="an exception"),
    pytest.param(
        "raise OSError('no file \\ud800')", 503, "OSError: no file", id="a text no one can encode"
    ),
    pytest.param("raise MemoryError", 507, "Out of resources", id="no memory"),
    pytest.param("return [bytearray(1 << 60)]", 507, "Out of resources", id="too much memory"),
    pytest.param("return [{1, 2}]", 503, "set is not JSON serializable", id="no JSON"),
    pytest.param("a = []\na.append(a)\nreturn [a]", 503, "Circular", id="JSON that bites its tail"),
    pytest.param("return ['\\ud800']", 503, "surrogates not allowed", id="half a character"),
    pytest.param("return ['x' * (8 << 20)]", 500, "max_response_size (6553500", id="too long"),
    pytest.param("def f(): f()\nf()", 503, "RecursionError", id="endless recursion"),
    pytest.param(
        "os.close(1)\nos.close(2)\nprint('x', flush=True)", 503, "Bad file", id="stdout closed"
    ),
    pytest.param(
        "from ts.utils.util import PredictionException as E\nraise E('tea', 418)", 418, "tea",
        id="a status of its own",
    ),
]  # fmt: skip


@pytest.mark.usefixtures("bystander")
@pytest.mark.parametrize(("lines", "status", "says"), BROKEN_CONTRACTS)
def test_a_broken_contract_is_named_and_the_worker_lives_on(server, register, lines, status, says):
    assert register(lines).status == 200
    pid = server.manage("GET", "/models/bad").json[0]["workers"][0]["pid"]
    for _ in range(2):
        answer = server.predict("bad")
        assert (answer.status, answer.json["code"]) == (status, status)
        assert says in answer.json["message"]
    assert server.manage("GET", "/models/bad").json[0]["workers"][0]["pid"] == pid


DEATHS = [
    pytest.param("os._exit(0)", id="os._exit"),
    pytest.param("sys.exit('enough')", id="sys.exit"),
    pytest.param("os.kill(os.getpid(), signal.SIGSEGV)", id="a segmentation fault"),
    pytest.param("os.closerange(0, 256)\nreturn ['x']", id="its own socket closed"),
    pytest.param(
        "for fd in range(3, 64):\n    try:\n        os.write(fd, b'garbage' * 9)\n"
        "    except OSError:\n        pass\nreturn ['x']",
        id="garbage on its own socket",
    ),
    pytest.param(
        "if os.fork():\n    os._exit(1)\ntime.sleep(3600)", id="a child that holds its socket"
    ),
    pytest.param(
        "if os.fork():\n    os._exit(1)\nos.setsid()\ntime.sleep(6)",
        id="a child that holds its socket and went its own way",
    ),
]


@pytest.mark.usefixtures("bystander")
@pytest.mark.parametrize("lines", DEATHS)
def test_a_worker_that_dies_of_a_request_is_told_and_replaced(server, register, lines):
    assert (
        register(f"if bytes(data[0]['body']) != b'die':\n    return ['alive']\n{lines}").status
        == 200
    )
    kind = {"content_type": "application/octet-stream"}
    answer = server.predict("bad", b"die", **kind)
    assert answer.status == 500
    assert answer.json["message"].startswith("Worker died")
    until(lambda: server.predict("bad", b"x", **kind).body == b"alive")


HANGS = [
    pytest.param("time.sleep(3600)", "", id="asleep"),
    pytest.param("while True:\n    pass", "", id="busy"),
    pytest.param("os.kill(os.getpid(), signal.SIGSTOP)", "", id="stopped"),
    pytest.param(
        "time.sleep(3600)", "import signal\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)",
        id="deaf to SIGTERM",
    ),
]  # fmt: skip


@pytest.mark.usefixtures("bystander")
@pytest.mark.parametrize(("lines", "before"), HANGS)
def test_a_worker_that_hangs_is_ended_at_its_timeout(server, register, lines, before):
    assert register(lines, before).status == 200
    began = time.monotonic()
    answer = server.predict("bad")
    assert (answer.status, "no answer within 1 s" in answer.json["message"]) == (500, True)
    assert time.monotonic() - began < 20  # and not an hour


HARMLESS = [
    pytest.param(
        "for _ in range(64):\n    sys.stdout.write('x' * (16 << 20))", id="a flood of text"
    ),
    pytest.param("os.write(1, bytes(range(256)) * 100)", id="bytes on stdout"),
    pytest.param("sys.stdout.close()\nsys.stderr.close()", id="closed streams"),
    pytest.param("os.chdir('/')", id="another working directory"),
    pytest.param(
        "for _ in range(20):\n    threading.Thread(target=time.sleep, args=(3600,)).start()",
        id="threads that never end",
    ),
    pytest.param("if os.fork() == 0:\n    time.sleep(3600)", id="a child that never ends"),
    pytest.param(
        "context.metrics.add_counter('Many', 10**30)\ncontext.metrics.add_counter('\\ud800', 1)",
        id="measurements that no one can report",
    ),
    pytest.param("data.clear()", id="its list emptied"),
]


@pytest.mark.usefixtures("bystander")
@pytest.mark.parametrize("lines", HARMLESS)
def test_what_a_handler_may_do_beside_its_answer(server, register, lines):
    assert (
        register(f"{lines}\nreturn ['fine']", config="minWorkers: 1\nmaxWorkers: 1\n").status == 200
    )
    for _ in range(2):
        assert (server.predict("bad").status, server.predict("bad").body) == (200, b"fine")


@pytest.mark.usefixtures("bystander")
def test_no_line_of_a_header_is_a_handlers_to_end(server, register):
    register(
        "context.set_response_header(0, 'X-A', 'a\\r\\nX-Evil: 1\\r\\n\\r\\n<html>')\n"
        "context.set_response_header(0, 'X-B\\r\\nX-Evil', '1')\n"
        "context.set_response_header(0, 'Content-Length', '999')\n"
        "context.set_response_status(200, 'OK\\r\\nX-Evil: 1', 0)\n"
        "return ['ok']"
    )
    answer = server.predict("bad")
    assert (answer.status, answer.body, "x-evil" in answer.headers) == (200, b"ok", False)


BAD_STARTS = [
    pytest.param("import nobody_has_this", "ModuleNotFoundError", id="an import that fails"),
    pytest.param("def handle(:", "SyntaxError", id="no Python"),
    pytest.param("import sys\nsys.exit('bye')", "SystemExit: bye", id="sys.exit"),
    pytest.param("import os\nos._exit(7)", "exit code 7", id="os._exit"),
    pytest.param("import os\nos.kill(os.getpid(), 11)", "SIGSEGV", id="a segmentation fault"),
    pytest.param("raise OSError('\\ud800')", "OSError", id="a text no one can encode"),
    pytest.param("print('x' * (50 << 20))\n1 / 0", "ZeroDivisionError", id="a flood"),
    pytest.param("handle = 5", "found none", id="no handler"),
]  # fmt: skip


@pytest.mark.usefixtures("bystander")
@pytest.mark.parametrize(("source", "says"), BAD_STARTS)
def test_what_does_not_load_says_why_and_is_taken_back(server, source, says):
    url = write_archive(server.output.parent / "store", "bad", handler=source)
    answer = server.manage("POST", f"/models?url={url}&initial_workers=1")
    assert (answer.status, says in answer.json["message"]) == (500, True), answer.json
    assert server.manage("GET", "/models/bad").status == 404


def test_what_a_worker_has_started_ends_with_its_model(server, register):
    register("pid = os.fork()\nif pid == 0:\n    time.sleep(3600)\nreturn [str(pid)]")
    pid = int(server.predict("bad").body)
    assert Path(f"/proc/{pid}").exists()
    server.manage("DELETE", "/models/bad")
    until(lambda: not _runs(pid))


def _runs(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
