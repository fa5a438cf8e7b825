"""What config.properties means, key by key."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from flambeau_runtime.commands import config_properties, properties_file
from flambeau_runtime.errors import InvalidSettings
from flambeau_runtime.settings import (
    Address,
    Authorisation,
    ModelApi,
    ModelDefaults,
    Settings,
    Tls,
)


@pytest.fixture
def read(tmp_path):
    def read(text, environ=None, devices=0) -> Settings:
        path = tmp_path / "config.properties"
        path.write_text(text, encoding="utf-8")
        return config_properties.apply(Settings(), path, environ or {}, devices)

    return read


def limit(name):
    return lambda settings: getattr(settings.limits, name)


def own(name):
    return lambda settings: getattr(settings, name)


@pytest.mark.parametrize(
    ("line", "read_back", "value"),
    [
        pytest.param(
            "inference_address=http://192.0.2.1:8080",
            own("inference"),
            Address("192.0.2.1", 8080),
            id="an address is a host and a port",
        ),
        pytest.param(
            "inference_address=http://[::1]:8080",
            own("inference"),
            Address("::1", 8080),
            id="an IPv6 address stands in brackets",
        ),
        pytest.param(
            "management_address=http://127.0.0.1:0",
            own("management"),
            Address("127.0.0.1", 0),
            id="port 0 takes a free one",
        ),
        pytest.param(
            "service_envelope=kservev2",
            own("envelope"),
            "kservev2",
            id="one envelope stands around every handler",
        ),
        pytest.param("service_envelope=", own("envelope"), None, id="or none"),
        pytest.param(
            "metrics_address=http://localhost:8082",
            own("metrics"),
            Address("localhost", 8082),
            id="the metrics page has its own address",
        ),
        pytest.param(
            "inference_address=https://10.0.0.1:8443",
            own("inference"),
            Address("10.0.0.1", 8443, tls=True),
            id="an address may speak TLS",
        ),
        pytest.param(
            "inference_address=HTTPS://a",
            own("inference"),
            Address("a", 443, tls=True),
            id="a protocol in capitals, on its own port",
        ),
        pytest.param(
            "inference_address=http://a",
            own("inference"),
            Address("a", 80),
            id="an address without a port has that of its protocol",
        ),
        pytest.param(
            "inference_address=unix:/run/s",
            own("inference"),
            Address(path=Path("/run/s")),
            id="an address may be a unix socket",
        ),
        pytest.param(
            "inference_address=unix:///run/s",
            own("inference"),
            Address(path=Path("/run/s")),
            id="a unix socket may be written as a URL",
        ),
        pytest.param(
            "private_key_file=k.pem\ncertificate_file=c.pem",
            own("tls"),
            Tls(private_key=Path("k.pem"), certificate=Path("c.pem")),
            id="a key and its certificate",
        ),
        pytest.param(
            "keystore=s.p12\nkeystore_pass=secret\nkeystore_type=pkcs12",
            own("tls"),
            Tls(keystore=Path("s.p12"), keystore_password="secret"),  # noqa: S106  a test's own
            id="a keystore and its password",
        ),
        pytest.param(
            "cors_allowed_headers=X-A\ncors_allowed_origin=*\ncors_allowed_methods=",
            own("cors"),
            (("access-control-allow-origin", "*"), ("access-control-allow-headers", "X-A")),
            id="headers of CORS, in the order in which they are sent",
        ),
        pytest.param("ipex_enable=true", own("ipex"), True, id="what workers are told of IPEX"),
        pytest.param(
            'model_snapshot={"modelCount": 1, "models": {"m": {"1.0": {"marName": "m.mar",'
            ' "minWorkers": 0, "maxWorkers": 2, "batchSize": 3, "maxBatchDelay": 5,'
            ' "responseTimeout": 9, "defaultVersion": true, "runtimeType": "python"}}}}',
            own("snapshot"),
            (
                ModelDefaults(
                    "m",
                    "1.0",
                    min_workers=0,
                    max_workers=2,
                    batch_size=3,
                    max_batch_delay_s=0.005,
                    response_timeout_s=9,
                    is_default=True,
                    archive="m.mar",
                ),
            ),
            id="the models of a snapshot, those without workers too",
        ),
        pytest.param(
            'models={"m": {"1.0": {"batchSize": "8", "marName": "m.mar"}}}',
            own("model_defaults"),
            (ModelDefaults("m", "1.0", batch_size=8, archive="m.mar"),),
            id="numbers of a model may be written as words",
        ),
        pytest.param(
            "model_store=/models",
            own("model_store"),
            Path("/models"),
            id="the model store is a directory",
        ),
        pytest.param(
            "load_models=a.mar, b=c.mar",
            own("load_models"),
            ((None, "a.mar"), ("b", "c.mar")),
            id="models to load may be renamed",
        ),
        pytest.param(
            "load_models=ALL",
            own("load_models"),
            ((None, "all"),),
            id="all models is a word in any case",
        ),
        pytest.param("load_models=none", own("load_models"), (), id="none loads nothing"),
        pytest.param(
            "default_workers_per_model=3", own("workers_per_model"), 3, id="workers per model"
        ),
        pytest.param(
            "default_workers_per_model=0",
            own("workers_per_model"),
            None,
            id="0 workers per model means one per device",
        ),
        pytest.param("job_queue_size=7", limit("job_queue_size"), 7, id="the queue's length"),
        pytest.param(
            "default_response_timeout=5",
            limit("response_timeout_s"),
            5,
            id="the response timeout in seconds",
        ),
        pytest.param(
            "max_request_size=10", limit("max_request_bytes"), 10, id="the largest request"
        ),
        pytest.param(
            "batch_size=32", limit("batch_size"), 32, id="a server-wide batch size is honoured"
        ),
        pytest.param(
            "enable_batch=true\nbatch_size=32",
            limit("batch_size"),
            32,
            id="batching switched on keeps the batch size",
        ),
        pytest.param(
            "enable_batch=false\nbatch_size=32",
            limit("batch_size"),
            1,
            id="batching switched off wins over a batch size",
        ),
        pytest.param(
            "max_batch_delay=50",
            limit("max_batch_delay_s"),
            0.05,
            id="the batch delay is in milliseconds",
        ),
        pytest.param(
            "number_of_gpu=1", own("devices"), (0,), id="fewer devices than there are may be used"
        ),
        pytest.param(
            "number_of_gpu=64", own("devices"), (0, 1), id="no more devices are used than there are"
        ),
        pytest.param("number_of_gpu=0", own("devices"), (), id="no device may be used"),
        pytest.param(
            "job_queue_size=1",
            own("devices"),
            (0, 1),
            id="all devices are used when nothing is said",
        ),
        pytest.param(
            "disable_token_authorization=true",
            own("authorisation"),
            Authorisation.OFF,
            id="authorisation may be off",
        ),
        pytest.param(
            "disable_token_authorization=false",
            own("authorisation"),
            Authorisation.STRICT,
            id="saying that it is not off is the strict mode",
        ),
        pytest.param(
            "batch_size=1",
            own("authorisation"),
            Authorisation.AUTO,
            id="saying nothing is the automatic mode",
        ),
        pytest.param(
            "enable_model_api=false", own("model_api"), ModelApi.OFF, id="the model API may be off"
        ),
        pytest.param(
            "allowed_urls=https://a/.*, file://.*",
            own("allowed_urls"),
            ("https://a/.*", "file://.*"),
            id="allowed addresses are patterns",
        ),
        pytest.param(
            'models={"m": {"1.0": {"minWorkers": 2, "batchSize": 4, "maxBatchDelay": 50,'
            ' "defaultVersion": true, "responseTimeout": 0}}}',
            own("model_defaults"),
            (
                ModelDefaults(
                    "m", "1.0", min_workers=2, batch_size=4, max_batch_delay_s=0.05, is_default=True
                ),
            ),
            id="defaults of one model, without the numbers below 1",
        ),
        pytest.param(
            'models={\\\n  "m": {\\\n  "1.0": {"batchSize": 2}}}',
            own("model_defaults"),
            (ModelDefaults("m", "1.0", batch_size=2),),
            id="a value may go on in the next line",
        ),
    ],
)
def test_an_honoured_key_changes_the_settings(read, line, read_back, value):
    settings = read(line, devices=2)
    assert read_back(settings) == value
    assert settings.warnings == ()


@pytest.mark.parametrize(
    ("line", "said"),
    [
        pytest.param(
            "batch_size=many",
            "batch_size=many cannot be: write a whole number, 1 or more",
            id="a word is no number",
        ),
        pytest.param(
            "batch_size=0",
            "batch_size=0 cannot be: write a whole number, 1 or more",
            id="a batch of nothing",
        ),
        pytest.param(
            "job_queue_size=-1",
            "job_queue_size=-1 cannot be: write a whole number, 1 or more",
            id="a negative length",
        ),
        pytest.param(
            "max_batch_delay=0.5",
            "max_batch_delay=0.5 cannot be: write a whole number, 0 or more",
            id="half a millisecond",
        ),
        pytest.param(
            "service_envelope=kserv",
            "service_envelope=kserv cannot be: write one of body, json, kserve, kservev2",
            id="an envelope that does not exist",
        ),
        pytest.param(
            "enable_batch=yes",
            "enable_batch=yes cannot be: write true or false",
            id="a switch knows two words",
        ),
        pytest.param(
            "inference_address=8080",
            "inference_address=8080 cannot be: write http://host:port",
            id="a port alone is no address",
        ),
        pytest.param(
            "inference_address=http://a:99999",
            "the port must be a number from 0 to 65535",
            id="a port beyond all ports",
        ),
        pytest.param(
            "inference_address=ftp://a:8443",
            "write http://host:port, https://host:port or unix:/path",
            id="another protocol",
        ),
        pytest.param(
            "inference_address=unix:",
            "write http://host:port, https://host:port or unix:/path",
            id="a unix socket without a path",
        ),
        pytest.param("keystore_type=BKS", "write PKCS12", id="a keystore that nobody here reads"),
        pytest.param(
            'models={"m": {"1.0": {"batchSize": "many"}}}',
            'models.m.1.0.batchSize is "many": write a whole number',
            id="a word for a number of a model",
        ),
        pytest.param(
            'models={"m": {"1.0": {"batchsize": 2}}}',
            "models.m.1.0 has no field batchsize: did you mean batchSize?",
            id="a field that no model has",
        ),
        pytest.param(
            'model_snapshot={"models": {"m": {"1.0": {"minWorkers": 1}}}}',
            "models.m.1.0 lacks marName",
            id="a snapshot that does not name an archive",
        ),
        pytest.param(
            "model_snapshot={oops",
            'write JSON: {"models": {"model": {"1.0": {"marName"',
            id="a snapshot that is no JSON",
        ),
        pytest.param(
            "load_models==a.mar", "write NAME=FILE, FILE or ALL", id="a model without a name"
        ),
        pytest.param(
            "models=[1]", 'models=[1] cannot be: write JSON: {"model"', id="models that are a list"
        ),
        pytest.param(
            "allowed_urls=(", "write a regular expression", id="a pattern that does not compile"
        ),
        pytest.param(
            "device_visibility=some",
            "write own (each worker sees its device) or all",
            id="a visibility nobody knows",
        ),
        pytest.param(
            "model_store=$$STORE$$/m",
            "Invalid Environment Variable STORE: ",
            id="a variable that is not set",
        ),
    ],
)
def test_an_impossible_value_names_file_line_key_value_and_fix(read, line, said):
    with pytest.raises(InvalidSettings, match=re.escape(said)) as refused:
        read(f"# first line\n{line}")
    assert "config.properties:2: " in str(refused.value)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        pytest.param(
            "batchsize=4",
            "unknown key 'batchsize' has no effect; did you mean batch_size?",
            id="an unknown key names the nearest known one",
        ),
        pytest.param(
            "zzz=4", "unknown key 'zzz' has no effect", id="a key like no other has no nearest"
        ),
        pytest.param(
            "workflow_store=flows",
            "workflow_store has no effect: there are no workflows",
            id="a known key without effect says so",
        ),
    ],
)
def test_a_key_without_effect_is_a_warning_that_names_its_line(read, line, said):
    (warning,) = read(line).warnings
    assert warning.endswith(f"config.properties:1: {said}")


@pytest.mark.parametrize(
    "line",
    [
        pytest.param("number_of_netty_threads=4", id="threads of another server"),
        pytest.param("async_logging=true", id="logging that is asynchronous anyway"),
        pytest.param("vmargs=-Xmx4g", id="arguments of a machine that is not there"),
        pytest.param("install_py_dep_per_model=false", id="what is not supported is not asked for"),
        pytest.param("metrics_mode=prometheus", id="what happens anyway"),
    ],
)
def test_keys_that_tune_java_are_accepted_in_silence(read, line):
    assert read(line).warnings == ()


def test_variables_fill_in_values(read):
    settings = read("model_store=$$HOME_DIR$$/$$STORE$$", {"HOME_DIR": "/home", "STORE": "s"})
    assert settings.model_store == Path("/home/s")


def test_the_environment_speaks_only_where_the_file_allows_it(read):
    environ = {"TS_BATCH_SIZE": "9", "TS_UNKNOWN": "1"}
    assert read("batch_size=2", environ).limits.batch_size == 2
    assert read("enable_envvars_config=true\nbatch_size=2", environ).limits.batch_size == 9


def test_the_environment_names_one_key_in_another_way(read):
    environ = {"TS_TOKEN_EXPIRATION_TIME_MIN": "7"}
    assert read("enable_envvars_config=true", environ).token_expiration_min == 7


def test_addresses_of_archives_from_the_environment_need_a_switch_of_their_own(read):
    environ = {"TS_ALLOWED_URLS": "https://a/.*"}
    allowed = "enable_envvars_config=true\nallowed_urls=file://.*\n"
    assert read(allowed, environ).allowed_urls == ("file://.*",)
    switched = read(f"{allowed}use_env_allowed_urls=true", environ)
    assert switched.allowed_urls == ("https://a/.*",)
    assert read("use_env_allowed_urls=true", environ).allowed_urls == Settings().allowed_urls


@pytest.mark.parametrize(
    ("line", "why"),
    [
        pytest.param("plugins_path=/p", "plug-ins in Java cannot be loaded", id="plug-ins"),
        pytest.param("workflow_store=/w", "there are no workflows", id="workflows"),
        pytest.param("cpp_log_config=/l", "there is no backend in C++", id="logs of C++"),
        pytest.param(
            "cpu_launcher_enable=true",
            "every worker gets its share of the CPUs",
            id="a launcher for CPUs",
        ),
        pytest.param(
            "python=/usr/bin/python3",
            "workers run under the Python that this runtime is installed in",
            id="another Python",
        ),
    ],
)
def test_what_cannot_be_done_here_is_a_warning_with_the_reason(read, line, why):
    (warning,) = read(line).warnings
    assert warning.endswith(f"config.properties:1: {line.partition('=')[0]} has no effect: {why}")


def test_a_key_said_twice_means_what_was_said_last(read):
    assert read("batch_size=2\nbatch_size=3").limits.batch_size == 3


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(InvalidSettings, match=r"none\.properties: cannot be read: No such file"):
        config_properties.apply(Settings(), tmp_path / "none.properties", {})


@pytest.mark.parametrize(
    ("text", "entries"),
    [
        pytest.param(
            "a=1\n\n# c\n! d\nb: 2\nc 3",
            [("a", "1", 1), ("b", "2", 5), ("c", "3", 6)],
            id="three separators, two comments",
        ),
        pytest.param(
            "a=1\\\n   2\nb=3",
            [("a", "12", 1), ("b", "3", 3)],
            id="a backslash joins the next line without its indent",
        ),
        pytest.param(
            "a=x\\\\\nb=1",
            [("a", "x\\", 1), ("b", "1", 2)],
            id="two backslashes are one, and join nothing",
        ),
        pytest.param("a\\ b\\=c=\\u00e9\\t", [("a b=c", "é", 1)], id="escapes in keys and values"),
        pytest.param("a=b=c:d", [("a", "b=c:d", 1)], id="only the first separator separates"),
        pytest.param("a", [("a", "", 1)], id="a key alone has an empty value"),
        pytest.param(
            "a=1\r\nb=2\r\n", [("a", "1", 1), ("b", "2", 2)], id="lines may end as on Windows"
        ),
        pytest.param("a=1 # no", [("a", "1 # no", 1)], id="a comment has its own line"),
    ],
)
def test_a_property_file_is_read_as_java_reads_it(text, entries):
    found = [(entry.key, entry.value, entry.line) for entry in properties_file.parse(text)]
    assert found == entries
