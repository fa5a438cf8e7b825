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
        pytest.param([], {}, "no model store", id="no model store"),
        pytest.param(
            ["--model-store", "gone"], {}, "directory not found: gone", id="a store that is gone"
        ),
        pytest.param(
            ["--ts-config", "gone"], {}, "config file not found: gone", id="a file that is gone"
        ),
        pytest.param(
            [],
            {"TS_CONFIG_FILE": "gone"},
            "TS_CONFIG_FILE: config file not found: gone",
            id="a file that the variable names and that is gone",
        ),
    ],
)
def test_what_is_missing_is_named(read, flags, environ, said):
    with pytest.raises(InvalidSettings, match=said):
        read(*flags, **environ)
