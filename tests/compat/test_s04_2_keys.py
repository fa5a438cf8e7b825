"""Section 4.2: keys of config.properties."""

from __future__ import annotations

import json
import shutil
import zipfile
from datetime import UTC, datetime, timedelta

import pytest

from tests.certificates import Certificate, write_keystore
from tests.compat.mar import write_mar
from tests.compat.server import until
from tests.compat.wire import Wire

pytestmark = [pytest.mark.process, pytest.mark.timeout(180)]

NOTHING = "def handle(data, context):\n    return data and [1 for _ in data]\n"
SAYS_WHAT_IT_GETS = """
    def handle(data, context):
        return data and [type(row["body"]).__name__ for row in data]
"""
ENVIRONMENT = """
    import os

    def handle(data, context):
        return data and [dict(os.environ) for row in data]
"""
TALKS = """
    def handle(data, context):
        return data and ["x" * 30000 for row in data]
"""


def archives(*names):
    """Return a step that fills the model store with archives of these names, versions 1.0."""

    def prepare(place):
        for name in names:
            write_mar(place.store, name, NOTHING)

    return prepare


def names(server):
    return [model["modelName"] for model in server.manage("GET", "/models").json["models"]]


# addresses


@pytest.fixture(scope="module")
def certificate():
    return Certificate.for_localhost()


@pytest.fixture(scope="module", params=["files", "keystore"])
def over_tls(request, serve_module, certificate):
    """A server whose inference speaks TLS, and whose management listens on a unix socket."""
    config = {"default_workers_per_model": "1", "load_models": "model-1.0.mar"}
    if request.param == "files":
        config |= {"private_key_file": "key.pem", "certificate_file": "certificate.pem"}
    else:
        config |= {"keystore": "keystore.p12", "keystore_pass": "secret"}

    def prepare(place):
        certificate.write(place.folder)
        write_keystore(place.folder / "keystore.p12", certificate, "secret")
        write_mar(place.store, "model", NOTHING)
        config["inference_address"] = f"https://127.0.0.1:{place.ports.inference}"
        config["management_address"] = f"unix:{place.folder}/m.sock"

    return serve_module(config=config, prepare=prepare)


@pytest.mark.row("4.2-addresses", "4.2-tls-files", "4.2-keystore", "1.4-tls")
def test_an_address_may_speak_tls(over_tls, certificate):
    with Wire.to_port(over_tls.ports.inference, tls=certificate.trusting()) as wire:
        assert wire.request("GET", "/ping").json == {"status": "Healthy"}
        until(lambda: wire.request("POST", "/predictions/model", b"{}").body == b"1")


@pytest.mark.row("4.2-addresses")
def test_an_address_may_be_a_unix_socket(over_tls):
    with Wire.to_socket(str(over_tls.place.folder / "m.sock")) as wire:
        listed = wire.request("GET", "/models").json["models"]
        assert [model["modelName"] for model in listed] == ["model"]
    said = ' - 127.0.0.1 "GET /models HTTP/1.1" 200 '
    until(lambda: said in over_tls.log("access_log.log"))


@pytest.mark.row("4.2-addresses", "1.4-tls")
def test_plain_http_is_refused_where_tls_is_spoken(over_tls):
    answer = over_tls.inference("GET", "/ping")
    assert (answer.status, answer.reason) == (403, "Forbidden")
    assert answer.json == {"status": "This TorchServe instance only accepts HTTPS requests"}
    assert [name for name, _ in answer.fields] == [
        "content-type",
        "Pragma",
        "Cache-Control",
        "Expires",
        "content-length",
        "connection",
    ]


@pytest.mark.row("1.4-tls-versions", only="ours")
def test_tls_1_3_is_spoken_too(over_tls, certificate):
    with Wire.to_port(over_tls.ports.inference, tls=certificate.trusting()) as wire:
        assert wire._socket.version() == "TLSv1.3"


@pytest.mark.row("1.4-tls-no-files")
def test_https_without_files_ends_the_start(place):
    place.configure({"inference_address": f"https://127.0.0.1:{place.ports.inference}"})
    ended = place.run("--start", "--foreground", "--ncs", "--model-store", "store")
    assert "Model server started" not in ended.stdout


@pytest.mark.row("4.2-addresses-merged")
def test_equal_addresses_of_inference_and_management_are_one(serve):
    config = {}

    def prepare(place):
        config["management_address"] = f"http://127.0.0.1:{place.ports.inference}"

    server = serve(config=config, prepare=prepare)
    assert server.inference("GET", "/ping").json == {"status": "Healthy"}
    assert server.inference("GET", "/models").json == {"models": []}


@pytest.mark.row("4.2-cors", "1.4-cors", "1.4-cors-preflight")
def test_values_of_cors_are_sent_with_answers(serve):
    config = {
        "cors_allowed_origin": "https://yacht.example",
        "cors_allowed_methods": "GET, POST",
        "cors_allowed_headers": "X-A",
    }
    server = serve(config=config)
    ping = server.inference("GET", "/ping")
    preflight = server.inference("OPTIONS", "/predictions/nobody")
    assert (ping.status, preflight.status) == (200, 404)
    for answer in (ping, preflight, server.predict("nobody"), server.manage("GET", "/models")):
        assert answer.header("access-control-allow-origin") == "https://yacht.example"
        assert answer.header("access-control-allow-methods") == "GET, POST"
        assert answer.header("access-control-allow-headers") == "X-A"


# models


@pytest.mark.row("4.2-model-store", "4.4-model-store")
def test_the_flag_goes_before_the_file(serve):
    def prepare(place):
        write_mar(place.store, "flag", NOTHING)
        write_mar(place.folder / "other", "file", NOTHING)

    config = {"model_store": "other", "load_models": "all", "default_workers_per_model": "1"}
    assert names(serve(config=config, prepare=prepare)) == ["flag"]


def all_forms(place):
    """Fill the model store with one archive of each form, and with what is none."""
    write_mar(place.store, "zipped", NOTHING)
    for name in ("folder", "renamed"):
        written = write_mar(place.folder, name, NOTHING)
        with zipfile.ZipFile(written) as archive:
            archive.extractall(place.folder / name)
    shutil.move(place.folder / "folder", place.store)
    packed = shutil.make_archive(place.folder / "packed", "gztar", place.folder / "renamed")
    shutil.move(packed, place.store / "renamed.model")
    (place.store / "readme.txt").write_text("no model")
    (place.store / ".hidden").mkdir()


@pytest.mark.row("4.2-load-models", "4.4-models")
@pytest.mark.parametrize(
    ("flags", "config"),
    [
        pytest.param((), {"load_models": "all"}, id="in the file"),
        pytest.param((), {"load_models": "ALL"}, id="in the file, in capitals"),
        pytest.param(("--models", "ALL"), {}, id="by the flag"),
    ],
)
def test_all_means_archives_of_every_form_and_folders(serve, flags, config):
    server = serve(*flags, config={**config, "default_workers_per_model": "1"}, prepare=all_forms)
    assert names(server) == ["folder", "renamed", "zipped"]


@pytest.mark.row("4.2-load-models", "4.4-models")
@pytest.mark.parametrize(
    ("flags", "config"),
    [
        pytest.param((), {"load_models": "a-1.0.mar,mine=b-1.0.mar"}, id="in the file"),
        pytest.param(
            ("--models", "a-1.0.mar", "mine=b-1.0.mar"),
            {"load_models": "b-1.0.mar"},
            id="by the flag, which goes before the file",
        ),
    ],
)
def test_named_archives_are_served_under_their_own_name_or_a_given_one(serve, flags, config):
    config = {**config, "default_workers_per_model": "1"}
    assert names(serve(*flags, config=config, prepare=archives("a", "b"))) == ["a", "mine"]


@pytest.mark.row("4.2-load-models")
def test_an_archive_that_is_not_there_keeps_no_other_from_being_served(serve):
    config = {"load_models": "gone.mar,a-1.0.mar", "default_workers_per_model": "1"}
    assert names(serve(config=config, prepare=archives("a"))) == ["a"]


MODELS = {
    "a": {
        "1.0": {
            "defaultVersion": True,
            "marName": "a-1.0.mar",
            "minWorkers": 1,
            "maxWorkers": 3,
            "batchSize": 4,
            "maxBatchDelay": 7,
            "responseTimeout": 33,
            "startupTimeout": 44,
            "runtimeType": "python",
        }
    },
    "b": {"1.0": {"batchSize": 0, "maxBatchDelay": -5, "responseTimeout": 0}},
}
FIELDS = ("minWorkers", "maxWorkers", "batchSize", "maxBatchDelay", "responseTimeout")


def described(server, model):
    description = server.describe(model)
    return [description[field] for field in FIELDS]


@pytest.mark.row("4.2-models")
def test_the_file_says_beforehand_how_a_model_is_served(serve):
    config = {
        "models": json.dumps(MODELS),
        "load_models": "a-1.0.mar,b-1.0.mar",
        "default_workers_per_model": "1",
    }
    server = serve(config=config, prepare=archives("a", "b"))
    assert described(server, "a") == [1, 3, 4, 7, 33]
    assert server.describe("a")["startupTimeout"] == 44
    assert described(server, "b") == [1, 1, 1, 100, 120], "numbers below 1 say nothing"


SAVED = {
    "mine": {
        "1.0": {
            "defaultVersion": True,
            "marName": "a-1.0.mar",
            "minWorkers": 1,
            "maxWorkers": 3,
            "batchSize": 4,
            "maxBatchDelay": 7,
            "responseTimeout": 33,
        }
    },
    "idle": {
        "1.0": {
            "defaultVersion": True,
            "marName": "idle-1.0.mar",
            "minWorkers": 0,
            "maxWorkers": 0,
            "batchSize": 1,
            "maxBatchDelay": 100,
            "responseTimeout": 120,
        }
    },
}


@pytest.mark.row("4.2-model-snapshot")
def test_a_snapshot_is_served_instead_of_the_models_to_load(serve):
    def prepare(place):
        config = "minWorkers: 2\nmaxWorkers: 2\nbatchSize: 9\nresponseTimeout: 99\n"
        write_mar(place.store, "a", NOTHING, config=config)
        write_mar(place.store, "idle", NOTHING)
        write_mar(place.store, "other", NOTHING)

    saved = {"name": "s.cfg", "modelCount": 2, "created": 1, "models": SAVED}
    server = serve(
        "--models",
        "other-1.0.mar",
        config={"model_snapshot": json.dumps(saved), "default_workers_per_model": "1"},
        prepare=prepare,
    )
    assert names(server) == ["idle", "mine"]
    assert described(server, "mine") == [1, 3, 4, 7, 33], "it goes before the archive, too"
    assert len(server.wait_for_workers("mine")) == 1
    assert server.workers("idle") == []
    assert server.describe("mine")["loadedAtStartup"] is False


@pytest.mark.row("4.2-model-snapshot")
def test_a_snapshot_without_its_archives_ends_the_start(place):
    saved = {"name": "s.cfg", "modelCount": 1, "created": 1, "models": {"mine": SAVED["mine"]}}
    place.configure({"model_snapshot": json.dumps(saved)})
    ended = place.run("--start", "--foreground", "--ncs", "--model-store", "store")
    said = "Model archive file for model :mine, version :1.0 not found in model store"
    assert said in ended.stdout + ended.stderr


@pytest.mark.row("4.2-default-workers", "4.2-initial-ports")
def test_start_up_models_and_registered_ones_get_so_many_workers(serve):
    config = {
        "default_workers_per_model": "2",
        "load_models": "a-1.0.mar",
        "initial_worker_port": "9500",
    }
    server = serve(config=config, prepare=archives("a", "b"))
    assert [worker["id"] for worker in server.wait_for_workers("a", 2)] == ["9500", "9501"]
    server.manage("POST", "/models", url="b-1.0.mar", synchronous="true")
    assert len(server.wait_for_workers("b", 2)) == 2


# limits


@pytest.fixture(scope="module")
def limited(serve_module):
    config = {
        "job_queue_size": "7",
        "default_response_timeout": "21",
        "default_startup_timeout": "34",
        "max_request_size": "1000",
        "max_response_size": "20000",
        "decode_input_request": "false",
        "blacklist_env_vars": "HIDDEN.*|ALSO_HIDDEN",
        "ipex_enable": "true",
        "number_of_gpu": "3",
        "allowed_urls": "HTTPS://a/.*,file:///nowhere/.*",
    }
    env = {"HIDDEN_KEY": "1", "ALSO_HIDDEN": "1", "NOT_HIDDEN": "1", "PYTHONPATH": "/inherited"}
    return serve_module(config=config, env=env)


@pytest.mark.row("4.2-job-queue-size", "4.2-default-timeouts", "4.2-number-of-gpu")
def test_numbers_of_the_file_hold_for_every_model(limited):
    with limited.registered(NOTHING, workers=0) as model:
        description = limited.describe(model)
    assert description["jobQueueStatus"]["remainingCapacity"] == 7
    assert (description["responseTimeout"], description["startupTimeout"]) == (21, 34)
    assert description["deviceType"] == "cpu", "no more GPUs than there are"


@pytest.mark.row("4.2-job-queue-size")
def test_a_queue_has_a_hundred_places(ts):
    with ts.registered(NOTHING, workers=0) as model:
        assert ts.describe(model)["jobQueueStatus"]["remainingCapacity"] == 100


@pytest.mark.row("4.2-sizes")
def test_sizes_have_bounds(limited):
    with limited.registered(TALKS) as model:
        assert limited.predict(model, b"x" * 1001).status == 413
        assert limited.predict(model, b"{}").status >= 500


@pytest.mark.row("4.2-decode")
def test_nothing_is_decoded_where_that_is_switched_off(limited):
    with limited.registered(SAYS_WHAT_IT_GETS) as model:
        assert limited.predict(model, b'{"a": 1}').text == "bytearray"


@pytest.fixture(scope="module")
def seen(limited):
    """What a worker finds in its environment, and where it works."""
    with limited.registered(ENVIRONMENT) as model:
        return limited.predict(model).json


@pytest.mark.row("4.2-blacklist", "4.3-worker-sees")
def test_variables_are_hidden_from_workers_by_their_whole_name(seen):
    assert seen["NOT_HIDDEN"] == "1"
    assert "HIDDEN_KEY" not in seen
    assert "ALSO_HIDDEN" not in seen


@pytest.mark.row("4.3-worker-sees", "4.2-ipex")
def test_workers_are_told_of_the_configuration(seen):
    assert seen["TS_DECODE_INPUT_REQUEST"] == "false"
    assert seen["TS_IPEX_ENABLE"] == "true"
    assert seen["TS_IPEX_GPU_ENABLE"] == "false"


@pytest.mark.row("4.3-worker-pythonpath")
def test_workers_find_the_models_files_and_what_was_inherited(limited, seen):
    first, second, *_ = seen["PYTHONPATH"].split(":")
    assert first == "/inherited"
    assert second.startswith(str(limited.place.temp))


@pytest.mark.row("4.2-allowed-urls")
@pytest.mark.parametrize(
    ("url", "allowed"),
    [
        pytest.param("https://b/x.mar", False, id="of none of the patterns"),
        pytest.param("http://127.0.0.1:9/https://a/x.mar", False, id="a part is not enough"),
        pytest.param("file:///nowhere/x.mar", True, id="of the second pattern"),
        pytest.param("FILE:///nowhere/x.mar", True, id="in capitals"),
    ],
)
def test_archives_come_from_allowed_addresses(limited, url, allowed):
    answer = limited.manage("POST", "/models", url=url)
    assert answer.status >= 400
    assert ("does not match any allowed URL" not in answer.text) is allowed


# switches


@pytest.mark.row("4.2-switches")
def test_switches_of_the_file_open_everything(serve):
    config = {"enable_model_api": "true", "disable_token_authorization": "true"}
    server = serve(config=config, default_flags=())
    assert server.manage("POST", "/models", url="gone.mar").status == 404
    assert not (server.place.folder / "key_file.json").exists()


@pytest.mark.row("4.2-switches", "4.2-token-expiration")
def test_switches_of_the_file_close_it_and_keys_expire_as_told(serve):
    config = {
        "enable_model_api": "false",
        "disable_token_authorization": "false",
        "token_expiration_min": "7",
    }
    server = serve(config=config, default_flags=())
    server.inference("GET", "/ping")  # by now they are written
    keys = json.loads((server.place.folder / "key_file.json").read_text())
    bearer = {"Authorization": f"Bearer {keys['management']['key']}"}
    assert server.manage("GET", "/models").status == 400
    assert server.manage("GET", "/models", headers=bearer).status == 200
    assert server.manage("POST", "/models", headers=bearer, url="x.mar").status == 405
    ends = datetime.fromisoformat(f"{keys['management']['expiration time'][:19]}+00:00")
    assert timedelta(minutes=6) < ends - datetime.now(UTC) < timedelta(minutes=8)


JAVA = {
    "number_of_netty_threads": "4",
    "netty_client_threads": "4",
    "async_logging": "true",
    "prefer_direct_buffer": "true",
    "use_native_io": "false",
    "io_ratio": "50",
    "vmargs": "-Dany=thing",
    "plugins_path": "/nowhere",
    "debug": "false",
}


@pytest.mark.row("4.2-netty-threads", "4.2-java")
def test_keys_of_java_keep_nobody_from_being_served(serve):
    assert serve(config=JAVA).inference("GET", "/ping").status == 200


@pytest.mark.row("4.2-without-effect", only="ours")
def test_what_guides_write_about_batches_is_honoured(serve):
    config = {"enable_batch": "true", "batch_size": "32", "max_batch_delay": "50"}
    server = serve(config=config)
    with server.registered(NOTHING, workers=0) as model:
        description = server.describe(model)
    assert (description["batchSize"], description["maxBatchDelay"]) == (32, 50)
