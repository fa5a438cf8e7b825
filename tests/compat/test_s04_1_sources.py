"""Section 4.1: where the configuration comes from, and who has the last word."""

from __future__ import annotations

import pytest

from tests.compat.mar import write_mar

pytestmark = [pytest.mark.process, pytest.mark.timeout(180)]

NOTHING = "def handle(data, context):\n    return data and [1 for _ in data]\n"


def timeout_of(server):
    """Return `default_response_timeout` as it is in effect."""
    with server.registered(NOTHING, workers=0) as model:
        return server.describe(model)["responseTimeout"]


def named_files(place):
    """Write two more files beside config.properties, each with its own timeout."""
    for name, timeout in (("flag.properties", "22"), ("variable.properties", "33")):
        keys = {**place.ports.config(), "default_response_timeout": timeout}
        lines = "".join(f"{key}={value}\n" for key, value in keys.items())
        (place.folder / name).write_text(lines)


@pytest.mark.row("4.1-order", "4.4-ts-config")
@pytest.mark.parametrize(
    ("flags", "env", "timeout"),
    [
        pytest.param((), {}, 11, id="config.properties of the folder, when nothing is named"),
        pytest.param(("--ts-config", "flag.properties"), {}, 22, id="the flag before it"),
        pytest.param(
            ("--ts-config", "flag.properties"),
            {"TS_CONFIG_FILE": "variable.properties"},
            33,
            id="the variable before the flag",
        ),
    ],
)
def test_one_file_counts(serve, flags, env, timeout):
    config = {"default_response_timeout": "11"}
    server = serve(*flags, config=config, env=env, prepare=named_files)
    assert timeout_of(server) == timeout


@pytest.mark.row("4.1-order")
def test_what_no_file_says_is_built_in(ts):
    assert timeout_of(ts) == 120


@pytest.mark.row("4.1-env-in-value")
def test_a_variable_in_a_value_is_filled_in(serve):
    config = {"default_response_timeout": "1$$REST$$"}
    assert timeout_of(serve(config=config, env={"REST": "7"})) == 17


@pytest.mark.row("4.1-envvars")
def test_the_environment_goes_before_the_file_and_before_the_command_line(serve):
    def prepare(place):
        for name in ("file", "flag", "env"):
            write_mar(place.store, name, NOTHING)

    server = serve(
        "--models",
        "flag-1.0.mar",
        config={
            "enable_envvars_config": "true",
            "load_models": "file-1.0.mar",
            "default_response_timeout": "11",
            "default_workers_per_model": "1",
        },
        env={"TS_DEFAULT_RESPONSE_TIMEOUT": "44", "TS_LOAD_MODELS": "env-1.0.mar"},
        prepare=prepare,
    )
    listed = server.manage("GET", "/models").json["models"]
    assert [model["modelName"] for model in listed] == ["env"]
    assert server.describe("env")["responseTimeout"] == 44


@pytest.mark.row("4.1-envvars-off")
def test_without_leave_of_the_file_the_environment_says_nothing(serve):
    server = serve(
        config={"default_response_timeout": "11"}, env={"TS_DEFAULT_RESPONSE_TIMEOUT": "44"}
    )
    assert timeout_of(server) == 11


@pytest.mark.row("4.1-allowed-urls")
@pytest.mark.parametrize(
    ("switch", "allowed"),
    [
        pytest.param({"use_env_allowed_urls": "true"}, False, id="with it, the variable counts"),
        pytest.param({}, True, id="without it, the variable does not"),
    ],
)
def test_addresses_of_archives_need_a_switch_of_their_own(serve, switch, allowed):
    server = serve(
        config={"enable_envvars_config": "true", **switch},
        env={"TS_ALLOWED_URLS": "https://elsewhere/.*"},
    )
    answer = server.manage("POST", "/models", url="http://127.0.0.1:9/model.mar")
    assert ("does not match any allowed URL" not in answer.text) is allowed


@pytest.mark.row("4.1-env-missing", only="ours")
def test_a_variable_that_is_not_set_ends_the_start_with_a_sentence(place):
    place.configure({"load_models": "$$NOBODY$$"})
    ended = place.run("--start", "--foreground", "--model-store", "store")
    assert ended.returncode == 1
    assert ended.stdout.startswith("Invalid configuration: Invalid Environment Variable NOBODY")


@pytest.mark.row("4.1-unknown-keys", only="ours")
def test_an_unknown_key_is_a_warning_that_names_its_line(serve):
    server = serve(config={"job_queue_sise": "7"})
    said = "unknown key 'job_queue_sise' has no effect; did you mean job_queue_size?"
    assert said in server.output


@pytest.mark.row("4.1-snapshot", only="ours")
def test_a_snapshot_of_an_earlier_life_is_not_picked_up(place):
    (place.logs / "config").mkdir(parents=True)
    (place.logs / "config" / "20260101000000000-snapshot.cfg").write_text("job_queue_size=7\n")
    with place.serving() as server, server.registered(NOTHING, workers=0) as model:
        assert server.describe(model)["jobQueueStatus"]["remainingCapacity"] == 100
    assert len(list((place.logs / "config").iterdir())) == 1
