"""Models as users of TorchServe bring them: other shapes than the example's, served as they are."""

import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from textwrap import dedent

import pytest

from tests.compat.server import serving, until
from tests.dataplane.archives import make_directory, make_mar, make_tgz

pytestmark = [pytest.mark.process, pytest.mark.timeout(120)]

OF_EACH = "import os\ndef handle(data, context):\n    if data is not None:\n        return "


def content(name, code, *, version="1.0", config="", handler="handler.py", **more):
    """Return an archive's files: `code` as handler.py, and `more`: folder__file_py."""
    model = {
        "modelName": name,
        "modelVersion": version,
        "handler": handler,
        **more.pop("model", {}),
    }
    if config:
        model["configFile"] = "model-config.yaml"
        more["model-config.yaml"] = config
    return {
        "MAR-INF/MANIFEST.json": json.dumps({"runtime": "python", "model": model}),
        "handler.py": dedent(code),
        **more,
    }


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with serving(tmp_path_factory.mktemp("a store with spaces")) as running:
        yield running


@pytest.fixture
def serve(server):
    """Register an archive with one worker; take it back later."""
    registered = []

    def add(name, code, make=make_mar, suffix=".mar", **how):
        file = f"{name}-{how.get('version', '1.0')}{suffix}"
        make(server.output.parent / "store" / file, content(name, code, **how))
        answer = server.manage("POST", f"/models?url={file}&initial_workers=1")
        assert answer.status == 200, answer.body
        registered.append((name, how.get("version", "1.0")))
        return lambda body=b"{}", **headers: server.predict(name, body, **headers)

    yield add
    for name, version in reversed(registered):
        server.manage("DELETE", f"/models/{name}/{version}")


CLASS = """
class Anything:  # derives from nothing
    def __init__(self):
        self.initialized = False

    def initialize(self, context):
        self.initialized = True
        self.calls = 0

    def handle(self, data, context):
        self.calls += 1
        return [f"call {self.calls}" for _ in data]
"""
SERVICE = (
    CLASS.replace("class Anything", "class Service").replace(": # derives", ":")
    + """

_service = Service()


def handle(data, context):
    if not _service.initialized:
        _service.initialize(context)
    return None if data is None else _service.handle(data, context)
"""
)
SIBLINGS = """
import words
from package import inner
from package.sub import deeper


def handle(data, context):
    if data is not None:
        return [[words.HERE, inner.HERE, deeper(), open("notes/text.txt").read()] for _ in data]
"""
POOL = """
import multiprocessing


def square(number):
    return number * number


def handle(data, context):
    if data is not None:
        with multiprocessing.get_context("{}").Pool(2) as pool:
            return [pool.map(square, row["body"]["numbers"]) for row in data]
"""
SHAPES = [
    pytest.param(OF_EACH + "['one' for _ in data]", {}, b"one", id="a function called handle"),
    pytest.param(
        "def entry(data, context):\n    return ['entry' for _ in data or ()]",
        {"handler": "handler.py:entry"}, b"entry", id="a function by its name",
    ),
    pytest.param(OF_EACH + "['x' for _ in data]", {"handler": "handler"}, b"x", id="no .py"),
    pytest.param(CLASS, {}, b"call 1", id="a class that derives from nothing"),
    pytest.param(SERVICE, {}, b"call 1", id="a module with a service of its own"),
    pytest.param(
        SIBLINGS,
        {
            "words.py": "HERE = 'words'",
            "package/__init__.py": "",
            "package/inner.py": "HERE = 'inner'",
            "package/sub/__init__.py": "from .. import inner\ndef deeper(): return inner.HERE * 2",
            "notes/text.txt": "été",
        },
        ["words", "inner", "innerinner", "été"], id="with modules, packages and files beside it",
    ),
    pytest.param(
        OF_EACH + "[open('log', 'a').write('x') for _ in data]", {}, b"1", id="that writes a file"
    ),
    pytest.param(POOL.format("fork"), {}, [1, 4], id="with a pool that forks"),
    pytest.param(POOL.format("spawn"), {}, [1, 4], id="with a pool that spawns"),
    pytest.param(
        "import subprocess\n" + OF_EACH
        + "[subprocess.run(['echo', 'hi'], capture_output=True).stdout for _ in data]",
        {}, b"hi\n", id="that runs a command",
    ),
    pytest.param(
        "import asyncio\n" + OF_EACH + "[asyncio.run(asyncio.sleep(0, 'later')) for _ in data]",
        {}, b"later", id="with a loop of its own",
    ),
    pytest.param(
        "from ts.context import Context\nfrom ts.metrics.dimension import Dimension\n"
        "from ts.utils.util import PredictionException, load_label_mapping\n" + OF_EACH
        + "['ts' for _ in data]",
        {}, b"ts", id="that imports TorchServe's modules",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("code", "how", "expected"), SHAPES)
def test_a_handler_may_be(serve, code, how, expected):
    answer = serve("m", code, **how)(b'{"numbers": [1, 2]}', content_type="application/json")
    assert answer.status == 200, answer.body
    assert expected == (answer.body if isinstance(expected, bytes) else answer.json)


@pytest.mark.parametrize(
    ("make", "suffix"),
    [
        pytest.param(make_mar, ".mar", id="a zip"),
        pytest.param(make_tgz, ".tar.gz", id="a gzipped tar"),
        pytest.param(make_directory, "", id="a directory"),
    ],
)
def test_an_archive_may_be(serve, make, suffix):
    ask = serve("m", OF_EACH + "['here' for _ in data]", make, suffix)
    assert ask().body == b"here"


def test_the_context_has_what_handlers_of_torchserve_read(serve):
    tells = """
        [[
            context.system_properties.get("batch_size"), context.system_properties.get("gpu_id"),
            os.path.samefile(context.system_properties.get("model_dir"), os.getcwd()),
            context.manifest["model"]["modelName"], context.model_name,
            context.model_yaml_config["handler"]["top"],
            context.get_request_header(0, "X-Mine"), context.get_request_id(0),
        ] for _ in data]
    """
    config = "batchSize: 4\nmaxBatchDelay: 20\nhandler:\n  top: 5\n"
    answer = serve("m", OF_EACH + tells.strip(), config=config)(X_Mine="yes")
    assert answer.json[:-2] == [4, None, True, "m", "m", 5]
    assert answer.json[-1] == answer.headers["x-request-id"]


def test_requests_are_batched_as_model_config_yaml_says(serve, server):
    ask = serve(
        "m", OF_EACH + "[len(data) for _ in data]", config="batchSize: 4\nmaxBatchDelay: 300\n"
    )
    (described,) = server.manage("GET", "/models/m").json
    assert (described["batchSize"], described["maxBatchDelay"]) == (4, 300)
    with ThreadPoolExecutor(16) as clients:
        sizes = [answer.json for answer in clients.map(lambda _: ask(), range(64))]
    assert 1 < max(sizes) <= 4


def test_an_image_is_an_answer_as_it_is(serve):
    code = (
        "def handle(data, context):\n    if data is not None:\n"
        "        context.set_response_content_type(0, 'image/png')\n"
        "        return [bytearray(range(256)) for _ in data]"
    )
    answer = serve("m", code)()
    assert (answer.body, answer.headers["content-type"]) == (bytes(range(256)), "image/png")


def test_two_versions_serve_beside_each_other_with_modules_of_one_name(serve, server):
    for version in ("1.0", "2.0"):
        code = "import mine\n" + OF_EACH + "[mine.HERE for _ in data]"
        serve("m", code, version=version, **{"mine.py": f"HERE = '{version}'"})
    assert server.predict("m").body == b"1.0"
    assert server.predict("m/2.0").body == b"2.0"
    assert server.manage("PUT", "/models/m/2.0/set-default").status == 200
    assert server.predict("m").body == b"2.0"
    assert server.manage("PUT", "/models/m/1.0/set-default").status == 200


def test_sixteen_models_share_one_runtime(serve, server):
    for number in range(16):
        serve(f"m{number}", OF_EACH + f"['{number}' for _ in data]")
    with ThreadPoolExecutor(8) as clients:
        answers = clients.map(lambda n: server.predict(f"m{n % 16}").body, range(160))
        assert list(answers) == [str(n % 16).encode() for n in range(160)]


WEIGHTS = """
import sys, torch
sys.path.insert(0, ".")
from net import Net
net = Net()
torch.nn.init.constant_(net.layer.weight, 1.0)
torch.nn.init.constant_(net.layer.bias, 0.5)
torch.save(net.state_dict(), "eager.pt")
torch.jit.trace(net, torch.zeros(1, 2)).save("traced.pt")
"""
NET = """
import torch


class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(2, 1)

    def forward(self, batch):
        return self.layer(batch)
"""
LOADER = """
import numpy
import torch
from ts.torch_handler.base_handler import BaseHandler


class WithLoader(BaseHandler):
    def handle(self, data, context):
        samples = [torch.tensor(row["body"], dtype=torch.float32) for row in data]
        loader = torch.utils.data.DataLoader(samples, batch_size=1, num_workers=2)
        with torch.inference_mode():
            found = [self.model(batch).numpy() for batch in loader]
        return [numpy.round(each, 3).tolist() for each in found]
"""


def test_eager_and_traced_models_serve_and_may_use_data_loaders(tmp_path):
    store = tmp_path / "store"
    store.mkdir()
    (store / "net.py").write_text(NET)
    subprocess.run([sys.executable, "-c", WEIGHTS], cwd=store, check=True)
    for name, model, handler in (
        ("eager", {"modelFile": "net.py", "serializedFile": "eager.pt"}, "base_handler"),
        ("traced", {"serializedFile": "traced.pt"}, "base_handler"),
        ("loader", {"serializedFile": "traced.pt"}, "handler.py"),
    ):
        files = content(
            name, LOADER, config="minWorkers: 1\nmaxWorkers: 1\n", handler=handler, model=model
        )
        weights = model["serializedFile"]
        files |= {weights: (store / weights).read_bytes(), "net.py": NET}
        make_mar(store / f"{name}.mar", files)
    names = ("eager", "traced", "loader")
    with serving(tmp_path, "--models", *(f"{name}.mar" for name in names), torch=True) as server:
        for name in names:
            until(lambda name=name: _asked(server, name).status == 200, 60)
            assert _asked(server, name).json in ([[3.5]], [3.5])


def _asked(server, name):
    body = b"[1, 2]" if name == "loader" else b"[[1.0, 2.0]]"
    return server.predict(name, body, content_type="application/json")
