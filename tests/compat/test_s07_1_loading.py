"""Section 7.1: which handlers there are, and how they are loaded."""

from __future__ import annotations

import json

import pytest

from tests.compat.ts import new_name
from tests.torch_models import LINEAR, eager

pytestmark = [pytest.mark.process, pytest.mark.timeout(180)]

CALLS = """
    import os
    import sys
    calls = []

    def handle(data, context):
        calls.append(None if data is None else len(data))
        return None if data is None else [{"calls": calls} for _ in data]

    def other(data, context):
        return None if data is None else ["other" for _ in data]

    class Handler:
        def initialize(self, context):
            raise RuntimeError("never asked")
        def handle(self, data, context):
            return ["class" for _ in data]
"""
CLASS = """
    import os
    import sys
    from collections import OrderedDict
    from ts.torch_handler.base_handler import BaseHandler
    import neighbour

    class Handler(BaseHandler):
        def initialize(self, context):
            self.loaded = 1
            self.asked = 0
            self.directory = context.system_properties["model_dir"]

        def handle(self, data, context):
            self.asked += 1
            return [
                {
                    "loaded": self.loaded,
                    "asked": self.asked,
                    "here": os.path.realpath(os.getcwd()) == os.path.realpath(self.directory),
                    "note": open("note.txt").read(),
                    "neighbour": neighbour.WORD,
                    "importable": any(
                        os.path.realpath(entry) == os.path.realpath(self.directory)
                        for entry in sys.path
                    ),
                }
                for _ in data
            ]
"""
FILES = {"note.txt": "a note", "neighbour.py": "WORD = 'imported'\n"}


def refusal(ts, handler, **more):
    """Register what cannot be loaded; return the answer and the model's name."""
    name = new_name()
    archive = ts.add_archive(handler, name, **more)
    answer = ts.manage("POST", "/models", url=archive, initial_workers=1, synchronous="true")
    return answer, name


@pytest.mark.row("7.1-module-function")
def test_a_modules_function_is_called_once_without_data_and_goes_before_classes(ts):
    with ts.registered(CALLS) as model:
        assert ts.predict(model).json == {"calls": [None, 1]}
        assert ts.predict(model).json == {"calls": [None, 1, 1]}


@pytest.mark.row("7.1-named-function")
def test_a_function_is_named_behind_a_colon(ts):
    with ts.registered(CALLS, handler="handler.py:other") as model:
        assert ts.predict(model).body == b"other"


@pytest.mark.row("7.1-named-function")
def test_a_function_that_is_not_there_leaves_the_class(ts):
    with ts.registered(CLASS, files=FILES, handler="handler.py:gone") as model:
        assert ts.predict(model).json["loaded"] == 1


@pytest.mark.row("7.1-class", "7.1-import-path", "7.1-once")
def test_the_one_class_of_the_file_is_loaded_once_where_its_files_are(ts):
    with ts.registered(CLASS, files=FILES) as model:
        answers = [ts.predict(model).json for _ in range(3)]
    assert [answer.pop("asked") for answer in answers] == [1, 2, 3]
    assert (
        answers
        == [
            {
                "loaded": 1,
                "here": True,
                "note": "a note",
                "neighbour": "imported",
                "importable": True,
            }
        ]
        * 3
    )


@pytest.mark.row("7.1-class")
def test_two_classes_that_could_both_be_meant_are_refused(ts):
    two = CLASS + CLASS.replace("Handler(", "Other(")
    answer, name = refusal(ts, two, files=FILES)
    assert answer.status == 500
    assert answer.json["type"] == "InternalServerException"
    ts.manage("DELETE", f"/models/{name}")


@pytest.mark.row("7.1-default-handler")
def test_what_is_no_file_of_the_archive_is_a_default_handler(ts):
    saved = eager(LINEAR)
    names = {"handler": "base_handler", "serializedFile": "weights.pt", "modelFile": "model.py"}
    with ts.registered("", files=saved.files, **names) as model:
        (worker,) = ts.wait_for_workers(model)
        assert worker["status"] == "READY"


@pytest.mark.row("7.1-import-error", only="ours")
def test_what_a_handler_cannot_import_is_named_to_whoever_registers_it(ts):
    answer, name = refusal(ts, "import a_module_that_nobody_has\n")
    assert answer.status == 500
    assert "No module named 'a_module_that_nobody_has'" in answer.json["message"]
    assert "ts.torch_handler" not in answer.text
    ts.manage("DELETE", f"/models/{name}")


@pytest.mark.row("7.1-envelope")
def test_an_envelope_of_the_server_stands_around_every_handler(serve):
    wrapped = """
        def handle(data, context):
            return None if data is None else [{"seen": it} for it in data]
    """
    server = serve(config={"service_envelope": "body"})
    with server.registered(wrapped) as model:
        assert server.predict(model, json.dumps([1, 2]).encode()).json == {"seen": [1, 2]}


@pytest.mark.row("7.1-envelope")
def test_an_envelope_of_the_manifest_has_no_effect(ts):
    plain = "def handle(data, context): return data\n"
    with ts.registered(plain, envelope="json") as model:
        assert ts.predict(model, b'{"instances": [1]}').json == {"body": {"instances": [1]}}


@pytest.mark.row("7.1-envelope-per-model", only="ours")
def test_a_model_may_have_an_envelope_of_its_own(ts):
    plain = "def handle(data, context): return data\n"
    with ts.registered(plain, config="envelope: json\n") as model:
        assert ts.predict(model, b'{"instances": [1]}').json == {"predictions": [1]}
