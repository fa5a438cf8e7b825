"""Who gets in: TorchServe's keys, loopback callers, the operator's signature."""

import base64
import json
import stat
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from flambeau_runtime.api import signed_calls
from flambeau_runtime.api.authorisation import (
    Keys,
    is_loopback,
    make_inference_gate,
    make_keys,
    make_management_gate,
    make_state_gate,
)
from flambeau_runtime.errors import InvalidKey, Unauthorised
from flambeau_runtime.settings import Authorisation, Managed, Settings
from tests.dataplane.signing import bearer, claims, public_text

BODY = b'{"models": []}'
KEY, NEXT_KEY, FOREIGN_KEY = (Ed25519PrivateKey.generate() for _ in range(3))


@pytest.fixture
def settings(tmp_path):
    return Settings(state_dir=tmp_path, key_file=tmp_path / "key_file.json")


def key_of(settings, kind: str) -> str:
    return json.loads(settings.key_file.read_text())[kind]["key"]


# loopback callers, and others with the key


@pytest.mark.parametrize(
    ("peer", "is_it"),
    [
        pytest.param("127.0.0.1", True, id="IPv4"),
        pytest.param("127.9.9.9", True, id="the whole of 127/8"),
        pytest.param("::1", True, id="IPv6"),
        pytest.param("::ffff:127.0.0.1", True, id="IPv4 seen through an IPv6 socket"),
        pytest.param("10.0.0.7", False, id="another machine"),
        pytest.param("::ffff:10.0.0.7", False, id="another machine through an IPv6 socket"),
        pytest.param("fe80::1%eth0", False, id="a link-local neighbour"),
        pytest.param("localhost", False, id="a name proves nothing"),
        pytest.param(None, False, id="nobody knows"),
    ],
)
def test_loopback_is_told_by_the_address(peer, is_it):
    assert is_loopback(peer) is is_it


def test_management_is_open_to_loopback_callers(settings):
    make_management_gate(settings, make_keys(settings))("127.0.0.1", None)


def test_other_callers_need_the_management_key_and_are_told_where_it_is(settings):
    gate = make_management_gate(settings, make_keys(settings))
    with pytest.raises(InvalidKey) as refused:
        gate("10.0.0.7", None)
    assert str(refused.value).startswith("Token Authorization failed. Token either incorrect")
    assert "Authorization: Bearer" in str(refused.value)
    assert str(settings.key_file) in str(refused.value)
    gate("10.0.0.7", f"Bearer {key_of(settings, 'management')}")


@pytest.mark.parametrize("kind", ["inference", "API"])
def test_the_other_keys_do_not_open_management(settings, kind):
    gate = make_management_gate(settings, make_keys(settings))
    with pytest.raises(InvalidKey):
        gate("10.0.0.7", f"Bearer {key_of(settings, kind)}")


@pytest.mark.parametrize(
    "form",
    [
        pytest.param("{}", id="no scheme"),
        pytest.param("bearer {}", id="a small b"),
        pytest.param("Basic {}", id="another scheme"),
        pytest.param("Bearer {}x", id="more than the key"),
        pytest.param("Bearer ", id="no key"),
        pytest.param("Bearer ü", id="not ASCII"),
    ],
)
def test_the_header_is_exact(settings, form):
    gate = make_management_gate(settings, make_keys(settings))
    with pytest.raises(InvalidKey):
        gate("10.0.0.7", form.format(key_of(settings, "management")))


def test_inference_is_open_unless_the_strict_mode_is_asked_for(settings):
    assert make_inference_gate(settings, make_keys(settings)) is None


def test_strict_mode_wants_the_inference_key_for_inference(settings):
    strict = replace(settings, authorisation=Authorisation.STRICT)
    gate = make_inference_gate(strict, make_keys(strict))
    key = key_of(strict, "inference").encode()
    gate(b"Host: a\r\naUTHORIZATION:  Bearer " + key + b"\r\nAccept: */*\r\n")
    gate(b"Authorization: Bearer " + key)
    for headers in (b"", b"X-Authorization: Bearer " + key, b"Authorization: Bearer no\r\n"):
        with pytest.raises(InvalidKey):
            gate(headers)


def test_strict_mode_wants_the_key_from_loopback_callers_too(settings):
    strict = replace(settings, authorisation=Authorisation.STRICT)
    gate = make_management_gate(strict, make_keys(strict))
    with pytest.raises(InvalidKey):
        gate("127.0.0.1", None)
    gate("127.0.0.1", f"Bearer {key_of(strict, 'management')}")


def test_switched_off_everybody_gets_in_and_there_is_no_file(settings):
    off = replace(settings, authorisation=Authorisation.OFF)
    keys = make_keys(off)
    assert make_inference_gate(off, keys) is None
    make_management_gate(off, keys)("10.0.0.7", None)
    assert not off.key_file.exists()


def test_the_key_file_is_torchserves_and_its_owners_alone(settings):
    keys = make_keys(settings)
    content = json.loads(settings.key_file.read_text())
    assert sorted(content) == ["API", "inference", "management"]
    assert sorted(content["inference"]) == ["expiration time", "key"]
    assert sorted(content["API"]) == ["key"]
    assert stat.S_IMODE(settings.key_file.stat().st_mode) == 0o600
    keys.remove()
    assert list(settings.key_file.parent.iterdir()) == []


def test_a_file_that_others_could_read_is_replaced_by_one_they_cannot(settings):
    settings.key_file.write_text("{}")
    settings.key_file.chmod(0o644)
    make_keys(settings)
    assert stat.S_IMODE(settings.key_file.stat().st_mode) == 0o600


def test_keys_expire_and_the_api_key_makes_new_ones(tmp_path):
    now = datetime(2026, 1, 1, tzinfo=UTC)
    keys = Keys(tmp_path / "keys.json", 60, lambda: now)
    keys.write()
    content = json.loads(keys.path.read_text())
    assert content["management"]["expiration time"] == "2026-01-01T01:00:00Z"
    old = f"Bearer {content['management']['key']}"
    keys.check("management", old)
    now += timedelta(minutes=60)
    with pytest.raises(InvalidKey):
        keys.check("management", old)
    keys.rotate("management", f"Bearer {content['API']['key']}")
    new = json.loads(keys.path.read_text())["management"]["key"]
    keys.check("management", f"Bearer {new}")


@pytest.mark.parametrize(
    ("kind", "key"),
    [
        pytest.param("inference", "management", id="the management key"),
        pytest.param("API", "API", id="the API key itself"),
        pytest.param("nonsense", "API", id="another kind"),
    ],
)
def test_only_the_api_key_rotates_and_only_the_two_keys(settings, kind, key):
    keys = make_keys(settings)
    with pytest.raises(InvalidKey, match="Token Authentication failed"):
        keys.rotate(kind, f"Bearer {key_of(settings, key)}")


# signed calls


class Known:
    def __init__(self, *keys: Ed25519PrivateKey) -> None:
        self.public_keys = tuple(map(public_text, keys))


def managed(tmp_path) -> Settings:
    return Settings(state_dir=tmp_path, managed=Managed(tmp_path / "boot.json", "uid-1"))


def state_gate(tmp_path, known):
    settings = managed(tmp_path)
    return make_state_gate(settings, make_keys(settings), known)


@pytest.mark.parametrize("peer", ["127.0.0.1", "10.0.0.7", None])
def test_a_signed_call_gets_in_from_anywhere(tmp_path, peer):
    state_gate(tmp_path, Known(KEY))(peer, bearer(KEY, BODY), BODY)


def test_a_managed_runtime_lets_nobody_in_unsigned_not_even_from_loopback(tmp_path):
    with pytest.raises(Unauthorised, match="Authorization: Bearer JWT"):
        state_gate(tmp_path, Known(KEY))("127.0.0.1", None, BODY)


def test_torchserves_verbs_of_a_managed_runtime_answer_loopback_callers_alone(tmp_path):
    settings = managed(tmp_path)
    gate = make_management_gate(settings, make_keys(settings))
    gate("127.0.0.1", None)
    with pytest.raises(Unauthorised, match="managed by a ModelDeployment"):
        gate("10.0.0.7", None)
    assert list(tmp_path.iterdir()) == []


def test_both_keys_are_good_during_a_rotation_and_a_new_one_without_a_restart(tmp_path):
    known = Known(KEY, NEXT_KEY)
    gate = state_gate(tmp_path, known)
    gate(None, bearer(KEY, BODY), BODY)
    gate(None, bearer(NEXT_KEY, BODY), BODY)
    known.public_keys = (public_text(NEXT_KEY),)
    gate(None, bearer(NEXT_KEY, BODY), BODY)
    with pytest.raises(Unauthorised, match="another key"):
        gate(None, bearer(KEY, BODY), BODY)


@pytest.mark.parametrize("age_s", [-50, 0, 100])
def test_clocks_may_be_a_minute_apart(tmp_path, age_s):
    state_gate(tmp_path, Known(KEY))(None, bearer(KEY, BODY, age_s=age_s), BODY)


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"uid": "uid-2"}, id="for another runtime"),
        pytest.param({"uid": ["uid-1", "uid-2"]}, id="for several runtimes"),
        pytest.param({"aud": None}, id="for nobody"),
        pytest.param({"age_s": 130}, id="expired"),
        pytest.param({"age_s": -3600}, id="from the future"),
        pytest.param({"exp": None}, id="without an end"),
        pytest.param({"iat": None}, id="without a beginning"),
        pytest.param({"exp": 4_000_000_000}, id="valid for years"),
        pytest.param({"exp": "never"}, id="with a word for an end"),
        pytest.param({"bodySha256": None}, id="without the body's digest"),
        pytest.param({"bodySha256": "0" * 64}, id="for another body"),
        pytest.param({"bodySha256": 7}, id="with a number for a digest"),
    ],
)
def test_a_call_is_refused_that_is_signed(tmp_path, changes):
    with pytest.raises(Unauthorised):
        state_gate(tmp_path, Known(KEY))(None, bearer(KEY, BODY, **changes), BODY)


def forged(header: dict[str, str], signature: bytes = b"") -> str:
    parts = [json.dumps(header).encode(), json.dumps(claims(BODY)).encode(), signature]
    return "Bearer " + b".".join(map(base64.urlsafe_b64encode, parts)).replace(b"=", b"").decode()


@pytest.mark.filterwarnings("ignore::jwt.warnings.InsecureKeyLengthWarning")
@pytest.mark.parametrize(
    "token",
    [
        pytest.param(bearer(FOREIGN_KEY, BODY), id="by another key"),
        pytest.param(forged({"alg": "none", "typ": "JWT"}), id="by nobody"),
        pytest.param(forged({"alg": "EdDSA"}, b"x" * 64), id="with noise"),
        pytest.param(
            "Bearer " + jwt.encode(claims(BODY), public_text(KEY), algorithm="HS256"),
            id="with the public key as a shared secret",
        ),
        pytest.param("Bearer a.b.c", id="with garbage"),
        pytest.param("Bearer ü", id="not in ASCII"),
        pytest.param("Bearer", id="with nothing"),
        pytest.param(bearer(KEY, BODY).replace("Bearer", "JWT"), id="under another scheme"),
    ],
)
def test_a_call_is_refused_that_is_signed_wrongly(tmp_path, token):
    with pytest.raises(Unauthorised):
        state_gate(tmp_path, Known(KEY))(None, token, BODY)


def test_no_call_gets_in_before_a_key_is_known():
    with pytest.raises(Unauthorised, match="no public key is known"):
        signed_calls.verify(bearer(KEY, BODY), BODY, "uid-1", ())


def test_a_key_that_is_none_does_not_hide_the_good_one():
    keys = ("not base64!", "AAAA", "ü", public_text(KEY))
    signed_calls.verify(bearer(KEY, BODY), BODY, "uid-1", keys)


# in constant time


def uses_of(settings):
    """Return every place where a key is compared: what asks, and the key that is right there."""
    strict = replace(settings, authorisation=Authorisation.STRICT)
    keys = make_keys(strict)
    manage = make_management_gate(strict, keys)
    predict = make_inference_gate(strict, keys)
    return {
        "management": lambda key: manage("10.0.0.7", f"Bearer {key}"),
        "inference": lambda key: predict(f"Authorization: Bearer {key}\r\n".encode()),
        "API": lambda key: keys.rotate("management", f"Bearer {key}"),
    }


@pytest.mark.parametrize("kind", ["management", "inference", "API"])
def test_a_key_is_compared_in_constant_time_and_in_no_other_way(settings, monkeypatch, kind):
    ask = uses_of(settings)[kind]
    right = key_of(settings, kind)
    monkeypatch.setattr("hmac.compare_digest", lambda _one, _other: False)
    with pytest.raises(InvalidKey):
        ask(right)
    monkeypatch.setattr("hmac.compare_digest", lambda _one, _other: True)
    ask("x")


def test_the_body_of_a_signed_call_is_compared_in_constant_time(tmp_path, monkeypatch):
    gate = state_gate(tmp_path, Known(KEY))
    monkeypatch.setattr("hmac.compare_digest", lambda _one, _other: False)
    with pytest.raises(Unauthorised, match="bodySha256"):
        gate(None, bearer(KEY, BODY), BODY)
