"""From the command line of `torchserve` to Settings."""

from __future__ import annotations

import pytest

from flambeau_runtime.commands.torchserve import make_parser, read_settings
from flambeau_runtime.errors import InvalidSettings
from flambeau_runtime.settings import Authorisation, ModelApi


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "store").mkdir()
    (tmp_path / "other").mkdir()
    return tmp_path


@pytest.fixture
def read(folder):
    def read(*flags, **environ):
        return read_settings(make_parser().parse_args(["--start", *flags]), environ, folder)

    return read


def write(folder, name, text):
    (folder / name).write_text(text)
    return name


def test_the_variable_goes_before_the_flag(read, folder):
    one = write(folder, "one", "job_queue_size=1\nmodel_store=store")
    two = write(folder, "two", "job_queue_size=2\nmodel_store=store")
    assert read("--ts-config", one).limits.job_queue_size == 1
    assert read("--ts-config", one, TS_CONFIG_FILE=two).limits.job_queue_size == 2


def test_a_file_in_the_working_directory_is_taken_when_none_is_named(read, folder):
    write(folder, "config.properties", "job_queue_size=3\nmodel_store=store")
    assert read().limits.job_queue_size == 3


def test_the_model_store_of_the_flag_goes_before_the_files(read, folder):
    write(folder, "config.properties", "model_store=/nowhere")
    assert read("--model-store", "store").model_store == folder / "store"


def test_models_of_the_flag_go_before_the_files(read, folder):
    write(folder, "config.properties", "model_store=store\nload_models=all")
    settings = read("--models", "classifier=classifier.mar")
    assert settings.load_models == (("classifier", "classifier.mar"),)


SPEAKS = "enable_envvars_config=true\nmodel_store=store\nload_models=file.mar"


@pytest.mark.parametrize(
    ("environ", "loaded"),
    [
        pytest.param({}, "flag.mar", id="the flag goes before the file"),
        pytest.param(
            {"TS_LOAD_MODELS": "env.mar"}, "env.mar", id="the environment goes before the flag"
        ),
    ],
)
def test_who_has_the_last_word(read, folder, environ, loaded):
    write(folder, "config.properties", SPEAKS)
    assert read("--models", "flag.mar", **environ).load_models == ((None, loaded),)


def test_the_environment_goes_before_switches_of_the_command_line_too(read, folder):
    write(folder, "config.properties", SPEAKS)
    environ = {"TS_DISABLE_TOKEN_AUTHORIZATION": "false", "TS_MODEL_STORE": str(folder / "other")}
    settings = read("--disable-token-auth", "--model-store", "store", **environ)
    assert settings.authorisation is Authorisation.STRICT
    assert settings.model_store == folder / "other"


def test_an_empty_variable_names_no_file_and_still_goes_before_the_flag(read, folder):
    write(folder, "named", "job_queue_size=4\nmodel_store=store")
    write(folder, "config.properties", "job_queue_size=3\nmodel_store=store")
    assert read("--ts-config", "named", TS_CONFIG_FILE="").limits.job_queue_size == 3


def test_archives_are_extracted_where_temp_says(read, folder):
    assert read("--model-store", "store").temp_dir is None
    assert read("--model-store", "store", TEMP="other").temp_dir == folder / "other"


SNAPSHOT = 'model_store=store\nmodel_snapshot={"models": {"m": {"1.0": {"marName": "m.mar"}}}}'


def test_a_snapshot_without_its_archives_is_refused(read, folder):
    write(folder, "config.properties", SNAPSHOT)
    said = "Model archive file for model :m, version :1.0 not found in model store"
    with pytest.raises(InvalidSettings, match=said):
        read()
    write(folder / "store", "m.mar", "")
    assert [version.archive for version in read().snapshot] == ["m.mar"]


def test_what_is_in_effect_is_said_line_by_line(read, folder):
    lines = read("--model-store", "store", "--models", "a=b.mar", "c.mar").introduction.splitlines()
    assert "Inference address: http://127.0.0.1:8080" in lines
    assert f"Model Store: {folder / 'store'}" in lines
    assert "Initial Models: a=b.mar,c.mar" in lines
    assert "Config file: N/A" in lines


def test_logs_and_keys_are_kept_in_the_working_directory(read, folder):
    settings = read("--model-store", "store")
    assert (settings.log_dir, settings.key_file) == (folder / "logs", folder / "key_file.json")
    assert read("--model-store", "store", LOG_LOCATION="/var/log").log_dir.as_posix() == "/var/log"


@pytest.mark.parametrize(
    ("flags", "authorisation", "model_api"),
    [
        pytest.param([], Authorisation.AUTO, ModelApi.AUTO, id="nothing said"),
        pytest.param(["--disable-token-auth"], Authorisation.OFF, ModelApi.AUTO, id="tokens off"),
        pytest.param(["--dt"], Authorisation.OFF, ModelApi.AUTO, id="tokens off, short"),
        pytest.param(["--enable-model-api"], Authorisation.AUTO, ModelApi.ON, id="model API on"),
    ],
)
def test_the_switches_of_the_command_line(read, flags, authorisation, model_api):
    settings = read("--model-store", "store", *flags)
    assert (settings.authorisation, settings.model_api) == (authorisation, model_api)


def test_a_flag_goes_before_the_same_switch_of_the_file(read, folder):
    write(folder, "config.properties", "disable_token_authorization=false\nmodel_store=store")
    assert read("--disable-token-auth").authorisation is Authorisation.OFF


def test_flags_without_effect_say_so(read):
    settings = read("--model-store", "store", "--ncs", "--plugins-path", "p")
    assert settings.warnings == ("--plugins-path has no effect",)


@pytest.mark.parametrize(
    ("flags", "environ", "said"),
    [
        pytest.param([], {}, "Missing mandatory parameter --model-store", id="no model store"),
        pytest.param(
            ["--model-store", "gone"],
            {},
            "--model-store directory not found: gone",
            id="a store that is gone",
        ),
        pytest.param(
            ["--ts-config", "gone"],
            {},
            "--ts-config file not found: gone",
            id="a file that is gone",
        ),
        pytest.param(
            [],
            {"TS_CONFIG_FILE": "gone"},
            "--ts-config file not found: gone",
            id="a file that the variable names and that is gone",
        ),
        pytest.param(
            ["--log-config", "gone"], {}, "--log-config file not found: /.*/gone", id="a log config"
        ),
        pytest.param(
            ["--model-store", "store", "--cpp-log-config", "gone"],
            {},
            "--cpp-log-config file not found: /.*/gone",
            id="a log config of C++",
        ),
        pytest.param(
            ["--model-store", "store", "--workflow-store", "gone"],
            {},
            "--workflow-store directory not found: gone",
            id="a store of workflows",
        ),
        pytest.param(
            ["--model-store", "store"],
            {"TEMP": "/gone"},
            "Invalid temp directory: /gone, please check TEMP environment variable.",
            id="a temp directory",
        ),
    ],
)
def test_what_is_missing_is_named(read, flags, environ, said):
    with pytest.raises(InvalidSettings, match=said):
        read(*flags, **environ)
