"""Where the runtime listens, and what it says when it cannot."""

from __future__ import annotations

import errno
import re
import socket

import pytest

from flambeau_runtime.api.listener import bind, reachable_url, url_of, url_of_address
from flambeau_runtime.errors import InvalidSettings
from flambeau_runtime.settings import Address


@pytest.mark.parametrize(
    ("host", "url"),
    [
        pytest.param("127.0.0.1", "http://127.0.0.1:{}", id="an address is its own"),
        pytest.param("0.0.0.0", "http://127.0.0.1:{}", id="all addresses include loopback"),  # noqa: S104  that is the case
        pytest.param("::", "http://[::1]:{}", id="also those of IPv6"),
        pytest.param("localhost", "http://127.0.0.1:{}", id="a name is looked up"),
    ],
)
def test_a_client_on_this_machine_is_told_an_address_that_it_can_reach(host, url):
    with bind("inference_address", Address(host, 0)) as listening:
        assert reachable_url(listening) == url.format(listening.getsockname()[1])


def test_an_ipv6_wildcard_takes_ipv4_callers_too():
    with bind("inference_address", Address("::", 0)) as listening:
        port = listening.getsockname()[1]
        socket.create_connection(("127.0.0.1", port), timeout=5).close()


def test_an_ipv6_wildcard_means_every_address_on_a_machine_without_ipv6_too(monkeypatch):
    def without_ipv6(address, *, family=socket.AF_INET, **rest):
        if family is socket.AF_INET6:
            raise OSError(errno.EAFNOSUPPORT, "Address family not supported by protocol")
        return create_server(address, family=family, **{**rest, "dualstack_ipv6": False})

    create_server = socket.create_server
    monkeypatch.setattr(socket, "create_server", without_ipv6)
    with bind("inference_address", Address("::", 0)) as listening:
        port = listening.getsockname()[1]
        socket.create_connection(("127.0.0.1", port), timeout=5).close()


def test_callers_may_connect_before_anything_is_served():
    with bind("inference_address", Address("127.0.0.1", 0)) as listening:
        socket.create_connection(listening.getsockname(), timeout=5).close()


@pytest.mark.parametrize(
    ("host", "said"),
    [
        pytest.param("192.0.2.1", "cannot listen there", id="another machine's address"),
        pytest.param("no-such-host.invalid", "cannot listen there", id="a name that nobody has"),
    ],
)
def test_an_address_that_cannot_be_had_is_named_with_its_key(host, said):
    with pytest.raises(InvalidSettings, match=said) as refused:
        bind("metrics_address", Address(host, 8082))
    assert f"metrics_address={url_of(host, 8082)}" in str(refused.value)


def test_a_taken_port_names_key_flag_and_port():
    with bind("inference_address", Address("127.0.0.1", 0)) as first:
        port = first.getsockname()[1]
        with pytest.raises(InvalidSettings, match=f"port {port} is taken") as refused:
            bind("inference_address", Address("127.0.0.1", port))
    assert "inference_address or --inference-address" in str(refused.value)


def test_a_unix_socket_is_an_address_too(tmp_path):
    address = Address(path=tmp_path / "s")
    with bind("inference_address", address) as listening:
        assert reachable_url(listening) == url_of_address(address) == f"unix:{tmp_path / 's'}"
        with socket.socket(socket.AF_UNIX) as calling:
            calling.connect(str(tmp_path / "s"))


def test_a_socket_that_a_dead_server_left_gives_way(tmp_path):
    bind("inference_address", Address(path=tmp_path / "s")).close()
    bind("inference_address", Address(path=tmp_path / "s")).close()


def a_server(path):
    return bind("inference_address", Address(path=path))


def a_file(path):
    return path.open("w")


@pytest.mark.parametrize(
    "there",
    [
        pytest.param(a_server, id="by a server that lives"),
        pytest.param(a_file, id="by a file, which is somebody's"),
    ],
)
def test_a_path_that_is_taken_is_named_with_its_key(tmp_path, there):
    with (
        there(tmp_path / "s"),
        pytest.raises(InvalidSettings, match="the path is taken; stop the process") as refused,
    ):
        bind("metrics_address", Address(path=tmp_path / "s"))
    assert f"metrics_address=unix:{tmp_path / 's'}" in str(refused.value)


@pytest.mark.parametrize(
    ("path", "why"),
    [
        pytest.param("gone/s", "cannot listen there (No such file", id="a folder that is gone"),
        pytest.param("s" * 200, "cannot listen there (AF_UNIX path too long", id="a long path"),
    ],
)
def test_a_path_that_cannot_be_had_says_why(tmp_path, path, why):
    with pytest.raises(InvalidSettings, match=re.escape(why)):
        bind("inference_address", Address(path=tmp_path / path))
