"""From the files of config.properties to what a TLS server shows, and why it cannot."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from flambeau_runtime.api import tls
from flambeau_runtime.errors import InvalidSettings
from flambeau_runtime.settings import Tls
from tests.certificates import Certificate, write_keystore


@pytest.fixture(scope="module")
def certificate():
    return Certificate.for_localhost()


@pytest.fixture
def files(tmp_path, certificate):
    return certificate.write(tmp_path)


def test_a_key_and_its_certificate_make_a_context(files):
    context = tls.make_context(Tls(private_key=files.key, certificate=files.certificate))
    assert context.minimum_version.name == "TLSv1_2"


def test_an_old_form_of_key_is_read_too(tmp_path, files, certificate):
    (tmp_path / "old.pem").write_bytes(certificate.key_in_old_form())
    tls.make_context(Tls(private_key=tmp_path / "old.pem", certificate=files.certificate))


def test_a_keystore_goes_before_files(tmp_path, files, certificate):
    write_keystore(tmp_path / "s.p12", certificate, "secret")
    identity = tls.read_identity(
        Tls(
            private_key=Path("gone"),
            certificate=Path("gone"),
            keystore=tmp_path / "s.p12",
            keystore_password="secret",  # noqa: S106  a test's own
        )
    )
    assert identity.certificates == files.certificate.read_bytes()


def test_nothing_of_a_key_is_left_on_disk(tmp_path, files, monkeypatch):
    (tmp_path / "temp").mkdir()
    monkeypatch.setattr(tls.tempfile, "tempdir", str(tmp_path / "temp"))
    tls.make_context(Tls(private_key=files.key, certificate=files.certificate))
    assert list((tmp_path / "temp").iterdir()) == []


def test_a_password_is_not_printed():
    assert "secret" not in repr(Tls(keystore_password="secret"))  # noqa: S106  a test's own


def garbage(files, _):
    files.key.write_text("no key")


def others(files, certificate):
    files.certificate.write_bytes(Certificate.for_localhost().certificate)
    assert files.certificate.read_bytes() != certificate.certificate


def with_a_passphrase(files, _):
    files.key.write_text("-----BEGIN ENCRYPTED PRIVATE KEY-----\n")


def gone(files, _):
    files.key.unlink()


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        pytest.param(gone, "private_key_file=KEY: cannot be read: No such file", id="no file"),
        pytest.param(garbage, "they are not a PEM key and the certificate", id="no key in it"),
        pytest.param(others, "the certificate that belongs to it", id="the key of another"),
        pytest.param(
            with_a_passphrase,
            "the key has a passphrase, which nobody could type; write it without one",
            id="a key with a passphrase",
        ),
    ],
)
def test_a_key_that_is_of_no_use_is_named_with_what_to_do(files, certificate, spoil, said):
    spoil(files, certificate)
    with pytest.raises(InvalidSettings, match=re.escape(said.replace("KEY", str(files.key)))):
        tls.make_context(Tls(private_key=files.key, certificate=files.certificate))


def test_https_without_files_names_the_keys_that_are_missing():
    with pytest.raises(InvalidSettings, match="set private_key_file and certificate_file, or"):
        tls.make_context(Tls())


@pytest.mark.parametrize(
    ("content", "said"),
    [
        pytest.param(b"\xfe\xed\xfe\xed\0\0", "keytool -importkeystore", id="a keystore of Java"),
        pytest.param(b"garbage", "the file is no PKCS12 keystore", id="garbage"),
    ],
)
def test_a_keystore_that_does_not_open_is_named_with_what_to_do(tmp_path, content, said):
    (tmp_path / "s").write_bytes(content)
    with pytest.raises(InvalidSettings, match=said):
        tls.make_context(Tls(keystore=tmp_path / "s"))


def test_a_keystore_with_another_password_says_so(tmp_path, certificate):
    write_keystore(tmp_path / "s.p12", certificate, "secret")
    with pytest.raises(InvalidSettings, match="keystore_pass is another one"):
        tls.make_context(Tls(keystore=tmp_path / "s.p12"))
