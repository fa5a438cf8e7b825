"""From the command line of `flambeau-runtime` to Settings."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from flambeau_runtime.__main__ import main, make_parser, read_settings
from flambeau_runtime.commands.devices import count_devices
from flambeau_runtime.errors import InvalidSettings
from flambeau_runtime.settings import Address, Authorisation, Managed


def read(*flags, **environ):
    return read_settings(make_parser().parse_args(list(map(str, flags))), environ)


def test_without_flags_torchserves_ports_are_taken_on_loopback():
    settings = read()
    assert settings.inference == Address("127.0.0.1", 8080)
    assert settings.management == Address("127.0.0.1", 8081)
    assert settings.metrics == Address("127.0.0.1", 8082)
    assert settings.managed is None


def test_a_flag_goes_before_the_same_key_of_the_file(tmp_path):
    config = tmp_path / "config.properties"
    config.write_text(
        "inference_address=http://127.0.0.1:1\nmanagement_address=http://127.0.0.1:2\n"
    )
    settings = read("--ts-config", config, "--inference-address", "127.0.0.1:9")
    assert settings.inference.port == 9
    assert settings.management.port == 2


@pytest.mark.parametrize(
    ("given", "address"),
    [
        pytest.param("127.0.0.1:0", Address("127.0.0.1", 0), id="a host and a port"),
        pytest.param("http://127.0.0.1:5", Address("127.0.0.1", 5), id="TorchServe's spelling"),
        pytest.param("[::1]:5", Address("::1", 5), id="an IPv6 host in brackets"),
    ],
)
def test_an_address_may_be_spelled(given, address):
    assert read("--inference-address", given).inference == address


def test_models_are_named_or_not(tmp_path):
    settings = read("--model-store", tmp_path, "--models", "a.mar", "b=c.mar")
    assert settings.load_models == ((None, "a.mar"), ("b", "c.mar"))
    assert settings.model_store == tmp_path


def test_a_model_deployment_owns_the_runtime_that_is_told_so(tmp_path):
    settings = read("--boot-file", "b.json", "--owner-uid", "u", "--state-dir", tmp_path)
    assert settings.managed == Managed(Path("b.json").absolute(), "u")


def test_a_boot_file_that_is_mounted_is_followed_through_its_link(tmp_path):
    for generation in ("..old", "..new"):
        (tmp_path / generation).mkdir()
        (tmp_path / generation / "models.json").write_text(generation)
    link = tmp_path / "..data"
    link.symlink_to("..old")
    (tmp_path / "models.json").symlink_to("..data/models.json")
    boot_file = tmp_path / "models.json"
    settings = read("--boot-file", boot_file, "--owner-uid", "u", "--state-dir", tmp_path)
    link.unlink()
    link.symlink_to("..new")
    assert settings.managed.boot_file.read_text() == "..new"
    assert settings.state_dir == tmp_path


def test_how_a_runtime_leaves_is_told_by_flags():
    limits = read("--drain-delay", "1.5", "--drain-timeout", "196.5").limits
    assert (limits.drain_delay_s, limits.drain_timeout_s) == (1.5, 196.5)
    limits = read("--drain-delay", "1").limits
    assert (limits.drain_delay_s, limits.drain_timeout_s) == (1.0, 60.0)


@pytest.mark.parametrize(
    ("flags", "seconds"),
    [
        pytest.param((), 5.0, id="probes and Services need some seconds"),
        pytest.param(("--drain-delay", "10"), 10.0, id="as long as at the end of a pod"),
        pytest.param(("--drain-delay", "1"), 5.0, id="but not less"),
        pytest.param(("--drain-delay", "10", "--swap-delay", "0.5"), 0.5, id="unless it is said"),
    ],
)
def test_how_long_a_runtime_answers_on_before_a_version_makes_way(flags, seconds):
    assert read(*flags).limits.swap_delay_s == seconds


def test_token_authorisation_can_be_switched_off():
    assert read("--disable-token-auth").authorisation is Authorisation.OFF


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        pytest.param(
            ["--inference-address", "8080"],
            "--inference-address 8080 cannot be: write HOST:PORT",
            id="a port alone is no address",
        ),
        pytest.param(
            ["--model-store", "/nowhere"],
            "--model-store /nowhere: there is no such directory",
            id="a model store that is not there",
        ),
        pytest.param(
            ["--owner-uid", "u"],
            "--boot-file, --owner-uid and --state-dir go together",
            id="an owner without a boot file",
        ),
        pytest.param(
            ["--models", "=a.mar"], "write NAME=FILE, FILE or ALL", id="a model without a name"
        ),
    ],
)
def test_an_impossible_flag_ends_with_a_sentence_that_names_the_fix(flags, said, capsys):
    assert main(flags) == 1
    assert re.search(f"^flambeau-runtime: .*{re.escape(said)}", capsys.readouterr().err)


@pytest.mark.parametrize(
    ("environ", "devices"),
    [
        pytest.param({}, 3, id="all that are present"),
        pytest.param({"FLAMBEAU_DEVICES": "4"}, 4, id="as many as are declared"),
        pytest.param({"FLAMBEAU_DEVICES": "0"}, 0, id="none, when none is declared"),
        pytest.param({"CUDA_VISIBLE_DEVICES": "0,2"}, 2, id="only the visible ones"),
        pytest.param({"CUDA_VISIBLE_DEVICES": ""}, 0, id="none is visible"),
        pytest.param({"CUDA_VISIBLE_DEVICES": "1,-1,2"}, 1, id="CUDA stops at a minus"),
    ],
)
def test_devices_are_counted_without_torch(environ, devices, tmp_path):
    for name in ("nvidia0", "nvidia1", "nvidia2", "nvidiactl", "nvidia-uvm", "nvidia-caps"):
        (tmp_path / name).touch()
    assert count_devices(environ, tmp_path) == devices


def test_the_devices_of_the_machine_are_not_those_of_a_container_that_was_given_none(tmp_path):
    (tmp_path / "null").touch()
    assert count_devices({}, tmp_path, tmp_path / "none") == 0


@pytest.mark.parametrize(
    ("environ", "devices"),
    [
        pytest.param({}, 2, id="nodes that are no CPUs"),
        pytest.param({"HIP_VISIBLE_DEVICES": "1"}, 1, id="only those that HIP may see"),
        pytest.param({"ROCR_VISIBLE_DEVICES": "-1"}, 0, id="none is visible"),
    ],
)
def test_devices_of_amd_are_counted(environ, devices, tmp_path):
    for node, gpu_id in (("0", "0"), ("1", "51546"), ("2", "1234")):
        (tmp_path / "nodes" / node).mkdir(parents=True)
        (tmp_path / "nodes" / node / "gpu_id").write_text(f"{gpu_id}\n")
    assert count_devices(environ, tmp_path, tmp_path / "nodes") == devices


def test_a_declaration_that_is_no_number_is_refused():
    with pytest.raises(InvalidSettings, match="FLAMBEAU_DEVICES=two cannot be"):
        read(FLAMBEAU_DEVICES="two")


def test_the_help_shows_examples():
    help_text = make_parser().format_help()
    assert "examples:" in help_text
    assert "flambeau-runtime --model-store model_store --models" in help_text
