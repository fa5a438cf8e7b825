"""A user's handler: every kind TorchServe knows is found, and held to its contract."""

import json
import sys

import pytest

from flambeau_runtime.errors import (
    HandlerRefused,
    LoadFailed,
    OutOfMemory,
    PredictionFailed,
)
from flambeau_runtime.worker.context import Row
from tests.handlers import answers, json_row, load_handler, process_as_it_was

TAKES_OBJECTS = """
def handle(data, context):
    return None if data is None else [row["body"]["x"] * 2 for row in data]
"""
CLASS = """
from collections import OrderedDict

class Handler:
    def initialize(self, context):
        self.size = context.system_properties["batch_size"]
    def handle(self, data, context):
        return [self.size for _ in data]
"""


@pytest.fixture(autouse=True)
def _restored():
    with process_as_it_was():
        yield


@pytest.fixture
def load(tmp_path):
    return lambda code, handler="handler.py", **more: load_handler(tmp_path, code, handler, **more)


@pytest.mark.parametrize(
    ("code", "handler", "expected"),
    [
        pytest.param(TAKES_OBJECTS, "handler.py", [6], id="a module's function called handle"),
        pytest.param(TAKES_OBJECTS, "handler", [6], id="its file named without .py"),
        pytest.param(
            TAKES_OBJECTS.replace("handle", "go"), "handler.py:go", [6], id="a function by its name"
        ),
        pytest.param(CLASS, "handler.py", [4], id="the one class defined in the file"),
        pytest.param(
            CLASS + "\nclass Model: pass\n",
            "handler",
            [4],
            id="beside a class that handles nothing",
        ),
        pytest.param(TAKES_OBJECTS + CLASS, "handler", [6], id="a function before a class"),
        pytest.param(CLASS, "handler.py:go", [4], id="a class where the named function is not"),
    ],
)
def test_a_handler_may_be(load, code, handler, expected):
    assert answers(load(code, handler), {"x": 3}) == expected


def test_a_function_is_called_once_without_data_to_load(load):
    code = """
    calls = []
    def handle(data, context):
        calls.append(data)
        return [len(calls)] * len(data or [])
    """
    assert answers(load(code), 1, 1) == [2, 2]


@pytest.mark.parametrize("name", ["queue", "json", "model"])
def test_a_file_may_be_called_as_another_module_is(load, tmp_path, name):
    (tmp_path / f"{name}.py").write_text("def handle(data, context): return data and ['mine']")
    assert [result.body for result in load("", f"{name}.py").run([json_row(1)])] == [b"mine"]
    assert not hasattr(json, "handle")


def test_a_handler_finds_its_files_where_it_is_and_imports_its_neighbours(load, tmp_path):
    (tmp_path / "neighbour_of_it.py").write_text("WORD = 'hello'")
    (tmp_path / "note.txt").write_text("here")
    code = """
    import neighbour_of_it
    from pathlib import Path
    def handle(data, context):
        return data and [neighbour_of_it.WORD + Path("note.txt").read_text()]
    """
    assert load(code).run([json_row(1)])[0].body == b"hellohere"


@pytest.mark.parametrize(
    ("code", "handler", "reason", "message"),
    [
        pytest.param(
            "import no_such_thing",
            "handler.py",
            "HandlerImportFailed",
            "ModuleNotFoundError: No module named 'no_such_thing'",
            id="an import that fails",
        ),
        pytest.param(
            "def handle(:", "handler.py", "HandlerImportFailed", "SyntaxError", id="no Python"
        ),
        pytest.param("1 / 0", "handler.py", "HandlerImportFailed", "ZeroDivision", id="a raise"),
        pytest.param(
            "import sys; sys.exit(3)",
            "handler.py",
            "HandlerImportFailed",
            "SystemExit: 3",
            id="exit",
        ),
        pytest.param(
            "", "handler.py", "HandlerImportFailed", "exactly one class .* found none", id="nothing"
        ),
        pytest.param(
            CLASS + CLASS.replace("Handler", "Other"),
            "handler.py",
            "HandlerImportFailed",
            "found Handler, Other",
            id="two handler classes",
        ),
        pytest.param(
            TAKES_OBJECTS,
            "handler.py:gone",
            "HandlerImportFailed",
            r"no function gone\(data, context\)",
            id="a function that is not there",
        ),
        pytest.param(
            "", "no_such_handler", "HandlerImportFailed", "no_such_handler", id="no such handler"
        ),
        pytest.param(
            "",
            "vllm_handler",
            "HandlerImportFailed",
            "vllm_handler does not exist in this release",
            id="a default handler of an engine",
        ),
        pytest.param(
            "class H:\n def initialize(self, c): raise ValueError('no weights')\n"
            " def handle(self, d, c): ...",
            "handler.py",
            "InitializeFailed",
            "^ValueError: no weights$",
            id="a class that cannot be initialised",
        ),
        pytest.param(
            "def handle(data, context): return len(data)",
            "handler.py",
            "InitializeFailed",
            "TypeError",
            id="a function that does not expect to be loaded",
        ),
    ],
)
def test_what_does_not_load_says_why(load, code, handler, reason, message):
    with pytest.raises(LoadFailed, match=message) as failed:
        load(code, handler)
    assert failed.value.reason == reason


def test_the_config_keeps_the_types_of_yaml(load, tmp_path):
    (tmp_path / "model-config.yaml").write_text("1: one\nhandler: {k: 5}\n")
    code = "def handle(data, context): return data and [repr(context.model_yaml_config)]"
    manifest = {"model": {"configFile": "model-config.yaml"}}
    loaded = load(code, manifest=manifest)
    assert loaded.run([json_row(1)])[0].body == b"{1: 'one', 'handler': {'k': 5}}"


RAISES = "def handle(data, context):\n if data: {}"


@pytest.mark.parametrize(
    ("code", "kind", "message"),
    [
        pytest.param(
            RAISES.format("raise ValueError('bad row')"),
            PredictionFailed,
            "^Prediction failed. ValueError: bad row$",
            id="an exception",
        ),
        pytest.param(
            RAISES.format("raise MemoryError"), OutOfMemory, "^Out of resources", id="no memory"
        ),
        pytest.param(
            RAISES.format("return data * 2"),
            PredictionFailed,
            "^number of batch response mismatched: .* 2 results for 1 requests",
            id="too many results",
        ),
        pytest.param(
            RAISES.format("return tuple(data)"),
            PredictionFailed,
            "^Invalid model predict output: .* tuple$",
            id="a tuple",
        ),
        pytest.param(
            RAISES.format("return None"), PredictionFailed, "output: .* NoneType$", id="nothing"
        ),
        pytest.param(
            RAISES.format("return [object()]"),
            PredictionFailed,
            "^Unsupported model output data type. TypeError: .*object",
            id="a result that cannot become JSON",
        ),
        pytest.param(
            RAISES.format("raise type('E', (Exception,), {'__str__': lambda s: 1 / 0})"),
            PredictionFailed,
            "its text cannot be read",
            id="an exception that cannot be printed",
        ),
    ],
)
def test_a_handler_that_breaks_its_contract_fails_its_batch(load, code, kind, message):
    loaded = load(code)
    with pytest.raises(PredictionFailed, match=message) as failed:
        loaded.run([json_row(1)])
    assert type(failed.value) is kind


def test_a_handler_may_refuse_with_a_status_of_its_own(load):
    code = """
    from ts.utils.util import PredictionException
    def handle(data, context):
        if data:
            raise PredictionException("no such customer", 422)
    """
    with pytest.raises(HandlerRefused, match=r"^no such customer$") as refused:
        load(code).run([json_row(1)])
    assert refused.value.status == 422


def test_a_long_exception_is_cut_for_the_answer(load):
    loaded = load(RAISES.format("raise ValueError('x' * 100_000)"))
    with pytest.raises(PredictionFailed) as failed:
        loaded.run([json_row(1)])
    assert len(str(failed.value)) < 1100


def test_exit_ends_the_worker_not_just_the_batch(load):
    with pytest.raises(SystemExit):
        load(RAISES.format("raise SystemExit(9)")).run([json_row(1)])


def test_status_and_headers_of_the_handler_reach_the_answer(load):
    code = """
    def handle(data, context):
        if data:
            context.set_response_status(201, "Made", idx=0)
            context.set_response_header(0, "X-One", "1")
            context.set_response_content_type(1, "image/png")
            context.set_response_header(1, "X-Split", "a\\r\\nSet-Cookie: b")
            return [b"1", b"2"]
    """
    first, second = load(code).run([json_row(1), json_row(2)])
    assert (first.status, first.phrase, first.headers) == (201, "Made", (("X-One", "1"),))
    assert second.status == 200
    assert second.headers == (("content-type", "image/png"), ("X-Split", "a Set-Cookie: b"))


def test_nothing_of_a_batch_is_left_for_the_next(load):
    code = """
    def handle(data, context):
        if data and data[0]["body"] == "mark":
            context.set_all_response_status(418, "Teapot")
            context.set_response_header(0, "X-Mark", "yes")
        return data and ["" for _ in data]
    """
    loaded = load(code)
    assert loaded.run([json_row("mark")])[0].status == 418
    after = loaded.run([json_row("plain")])[0]
    assert (after.status, after.headers) == (200, ())


def test_measurements_are_drained_once(load):
    code = """
    def handle(data, context):
        if data:
            context.metrics.add_counter("Rows", len(data))
        return data and ["" for _ in data]
    """
    loaded = load(code)
    loaded.run([json_row(1, "a"), json_row(2, "b")])
    rows, time = loaded.drain_metrics()
    assert (rows["name"], rows["value"], rows["type"]) == ("Rows", 2.0, "counter")
    assert (rows["unit"], rows["requestId"]) == ("Count", "a,b")
    assert rows["dimensions"] == [("ModelName", "m"), ("Level", "Model")]
    assert (time["name"], time["type"], time["unit"]) == ("PredictionTime", "gauge", "Milliseconds")
    assert loaded.drain_metrics() == []


def test_json_is_left_alone_when_decoding_is_off(load):
    loaded = load("def handle(data, c): return data and [repr(data)]", decodeInputRequest=False)
    assert loaded.run([json_row([1])])[0].body == b"[{'body': bytearray(b'[1]')}]"


def test_a_load_leaves_no_module_behind_when_it_fails(load, tmp_path):
    (tmp_path / "broken_here.py").write_text("1 / 0")
    with pytest.raises(LoadFailed):
        load("", "broken_here.py")
    assert "broken_here" not in sys.modules


def test_a_handler_gets_a_buffer_of_its_own(load):
    code = """
    def handle(data, context):
        if data:
            data[0]["body"][0] = 0
            return [type(data[0]["body"]).__name__]
    """
    shared = memoryview(b"shared")
    assert load(code).run([Row("r", b"", "", shared)])[0].body == b"bytearray"
    assert bytes(shared) == b"shared"
