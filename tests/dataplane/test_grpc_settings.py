"""The gRPC keys of config.properties, flags of flambeau-runtime, addresses that cannot be had."""

import socket

import pytest

from flambeau_runtime.__main__ import make_parser, read_settings
from flambeau_runtime.api.grpc.listener import claim
from flambeau_runtime.api.tls import read_fitting_identity
from flambeau_runtime.commands import torchserve
from flambeau_runtime.errors import InvalidSettings
from flambeau_runtime.settings import Address, ConnectionAge, Tls
from tests.certificates import Certificate


def settings_of(tmp_path, *lines, command=torchserve):
    """Return what `torchserve` makes of a config.properties."""
    (tmp_path / "config.properties").write_text("\n".join(lines))
    (tmp_path / "store").mkdir(exist_ok=True)
    words = ["--start", "--model-store", "store"]
    return command.read_settings(command.make_parser().parse_args(words), {}, tmp_path)


def runtime_settings(tmp_path, *words, lines=()):
    """Return what `flambeau-runtime` makes of flags and a config.properties."""
    config = tmp_path / "config.properties"
    config.write_text("\n".join(lines))
    return read_settings(make_parser().parse_args(["--ts-config", str(config), *words]), {})


def test_torchserve_serves_grpc_on_its_usual_ports(tmp_path):
    settings = settings_of(tmp_path)
    assert settings.grpc_inference == Address("127.0.0.1", 7070)
    assert settings.grpc_management == Address("127.0.0.1", 7071)
    assert settings.grpc_inference_age == ConnectionAge(None, None)


def test_flambeau_runtime_serves_no_grpc_unless_told(tmp_path):
    settings = runtime_settings(tmp_path)
    assert (settings.grpc_inference, settings.grpc_management) == (None, None)


def test_flambeau_runtime_is_told_by_flags(tmp_path):
    settings = runtime_settings(tmp_path, "--grpc-inference-address", "0.0.0.0:9")
    assert settings.grpc_inference == Address("0.0.0.0", 9)  # noqa: S104
    assert settings.grpc_management is None


def test_flambeau_runtime_is_told_by_a_configuration_of_torchserve(tmp_path):
    settings = runtime_settings(tmp_path, lines=["grpc_management_port=9"])
    assert settings.grpc_inference is None
    assert settings.grpc_management == Address("127.0.0.1", 9)


def test_every_key_has_its_effect(tmp_path):
    settings = settings_of(
        tmp_path,
        "grpc_inference_address=0.0.0.0",
        "grpc_inference_port=1",
        "grpc_management_address=::1",
        "grpc_inference_max_connection_age_ms=1500",
        "grpc_management_max_connection_age_grace_ms=250",
        "enable_grpc_ssl=true",
        "private_key_file=key.pem",
        "certificate_file=cert.pem",
    )
    assert settings.grpc_inference == Address("0.0.0.0", 1)  # noqa: S104
    assert settings.grpc_management == Address("::1", 7071)
    assert settings.grpc_inference_age == ConnectionAge(1.5, None)
    assert settings.grpc_management_age == ConnectionAge(None, 0.25)
    assert settings.grpc_tls
    assert (str(settings.tls.private_key), str(settings.tls.certificate)) == (
        "key.pem",
        "cert.pem",
    )
    assert settings.warnings == ()


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("grpc_inference_port=many", "write a whole number"),
        ("grpc_inference_port=70700", "write a port from 0 to 65535"),
        ("grpc_inference_address=http://127.0.0.1:7070", "an address of this machine alone"),
        ("grpc_inference_address=127.0.0.1:7070", "an address of this machine alone"),
        ("grpc_management_max_connection_age_ms=0", "write a whole number, 1 or more"),
        ("enable_grpc_ssl=yes", "write true or false"),
    ],
)
def test_a_value_that_cannot_be_is_refused_by_key_and_fix(tmp_path, line, says):
    with pytest.raises(InvalidSettings, match=says) as refused:
        settings_of(tmp_path, line)
    assert line in str(refused.value)


def test_a_taken_port_is_an_error_that_names_key_and_flag():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(InvalidSettings) as refused:
            claim("grpc_inference", Address("127.0.0.1", port))
    assert str(refused.value) == (
        f"grpc_inference_port={port}: the port is taken by another process; stop that one, or set"
        " another port with grpc_inference_port or --grpc-inference-address"
    )


def test_an_address_of_another_machine_is_an_error_that_names_the_key():
    with pytest.raises(InvalidSettings, match="set an address of this machine with grpc_manag"):
        claim("grpc_management", Address("192.0.2.1", 0))


def test_a_claim_leaves_room_for_the_server_to_come():
    with claim("grpc_inference", Address("127.0.0.1", 0)) as held:
        socket.create_server(held.getsockname()).close()


def test_a_key_and_a_certificate_that_do_not_fit_are_refused_before_anything_is_served(tmp_path):
    mine, other = (Certificate.for_localhost() for _ in range(2))
    files = mine.write(tmp_path)
    files.certificate.write_bytes(other.certificate)
    with pytest.raises(InvalidSettings, match="certificate_file="):
        read_fitting_identity(Tls(private_key=files.key, certificate=files.certificate))
