"""Section 2.4: token authorisation."""

from __future__ import annotations

import json
import stat
from datetime import datetime

import pytest

from tests.compat.server import until
from tests.compat.test_s01_2_errors import error

pytestmark = [pytest.mark.process, pytest.mark.timeout(180)]

WRONG = "Token Authorization failed. Token either incorrect, expired, or not provided correctly"
WRONG_API = (
    "Token Authentication failed. Token either incorrect, expired, or not provided correctly"
)


@pytest.fixture(scope="module")
def strict(serve_module):
    """A server that asks everybody for keys."""
    return serve_module(
        config={"disable_token_authorization": "false"}, default_flags=("--enable-model-api",)
    )


def key_file(place):
    """Return the key file once it is there: a server takes connections before it has keys."""
    path = place.folder / "key_file.json"
    until(path.exists)
    return path


def keys(server):
    """Return the header of each kind of key."""
    found = json.loads(key_file(server.place).read_text())
    return {kind: {"Authorization": f"Bearer {it['key']}"} for kind, it in found.items()}


def refused(answer, message=WRONG):
    assert (answer.status, answer.json["type"]) == (400, "InvalidKeyException")
    assert answer.json["message"].startswith(message)


@pytest.mark.row("2.4-key-file")
def test_the_key_file_is_its_owners(strict):
    path = key_file(strict.place)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    found = json.loads(path.read_text())
    assert list(found) == ["management", "inference", "API"]
    assert list(found["inference"]) == ["key", "expiration time"]
    assert list(found["API"]) == ["key"]


@pytest.mark.row("2.4-key-file-stop", only="ours")
def test_the_key_file_goes_with_the_server(place):
    with place.serving(default_flags=()):
        path = key_file(place)
    assert not path.exists()


@pytest.mark.row("2.4-scope-inference", "2.4-header")
def test_predictions_need_the_inference_key(strict):
    for kind in (None, "management", "API"):
        refused(strict.predict("x", headers=keys(strict).get(kind, {})))
    assert strict.predict("x", headers=keys(strict)["inference"]).status == 404


@pytest.mark.row("2.4-scope-inference")
@pytest.mark.parametrize(
    "path", ["/explanations/x", "/v1/models/x:predict", "/v2/models/x/infer", "/x/predict", "/no"]
)
def test_so_does_everything_else_on_the_port(strict, path):
    refused(strict.inference("POST", path))
    key = keys(strict)["inference"]
    assert strict.inference("POST", path, headers=key).status == 404


@pytest.mark.row("2.4-scope-ping", only="ours")
@pytest.mark.parametrize("path", ["/ping", "/v2/health/live", "/v2/health/ready"])
def test_probes_need_no_key(strict, path):
    assert strict.inference("GET", path).status == 200


@pytest.mark.row("2.4-scope-management", "2.4-header")
@pytest.mark.parametrize("path", ["/models", "/models/x", "/v1/models/x"])
def test_management_needs_the_management_key(strict, path):
    for kind in (None, "inference", "API"):
        refused(strict.manage("GET", path, headers=keys(strict).get(kind, {})))
    answer = strict.manage("GET", path, headers=keys(strict)["management"])
    assert answer.status == (200 if path == "/models" else 404)


@pytest.mark.row("2.4-header")
@pytest.mark.parametrize("form", ["bearer {}", "Basic {}", "{}", "Bearer {}x", "Bearer ", "Bearer"])
def test_the_header_is_exact(strict, form):
    key = keys(strict)["management"]["Authorization"].removeprefix("Bearer ")
    refused(strict.manage("GET", "/models", headers={"Authorization": form.format(key)}))


@pytest.mark.row("2.4-scope-open")
def test_metrics_and_descriptions_are_open(strict):
    assert strict.metrics().status == 200
    for ask in (strict.inference, strict.manage):
        assert ask("OPTIONS", "/").status == 200
        assert ask("GET", "/api-description").status == 200


@pytest.mark.row("2.4-default-on", only="ours")
def test_by_default_callers_on_this_machine_need_no_key(serve):
    server = serve(default_flags=())
    assert server.manage("GET", "/models").status == 200
    assert server.inference("GET", "/ping").status == 200
    from_a_page = {"Origin": "http://a.page"}
    refused(server.manage("GET", "/models", headers=from_a_page))
    key = keys(server)["management"]
    assert server.manage("GET", "/models", headers={**from_a_page, **key}).status == 200


@pytest.mark.row("2.2-token")
@pytest.mark.parametrize("kind", ["inference", "management"])
def test_a_key_is_rotated(strict, kind):
    before = keys(strict)
    answer = strict.manage("GET", f"/token?type={kind}", headers=before["API"])
    assert (answer.status, answer.body) == (200, b"\n")
    after = keys(strict)
    assert [it for it in after if after[it] != before[it]] == [kind]
    ask, path = {
        "inference": (strict.inference, "/predictions/x"),
        "management": (strict.manage, "/models"),
    }[kind]
    refused(ask("GET", path, headers=before[kind]))
    assert ask("GET", path, headers=after[kind]).status in {200, 404}


@pytest.mark.row("2.2-token-refused")
def test_only_the_api_key_rotates_and_only_the_two_keys(strict):
    every = keys(strict)
    for kind, key in (("inference", "inference"), ("inference", "management")):
        answer = strict.manage("GET", f"/token?type={kind}", headers=every[key])
        assert answer.body == error(400, "InvalidKeyException", WRONG_API)
    for kind in ("API", "api", "x", ""):
        answer = strict.manage("GET", f"/token?type={kind}", headers=every["API"])
        assert answer.body == error(400, "InvalidKeyException", WRONG_API)
    refused(strict.manage("GET", "/token?type=inference"), WRONG_API)
    assert keys(strict) == every


@pytest.mark.row("2.2-token-refused")
def test_without_keys_there_is_no_token_to_rotate(ts):
    answer = ts.manage("GET", "/token?type=inference")
    assert (answer.status, answer.json["type"]) == (404, "ResourceNotFoundException")


@pytest.mark.row("2.4-expiry")
def test_keys_last_as_long_as_configured(serve):
    server = serve(
        config={"disable_token_authorization": "false", "token_expiration_min": "17"},
        default_flags=("--enable-model-api",),
    )
    path = key_file(server.place)
    found = json.loads(path.read_text())
    ends = [
        datetime.fromisoformat(found[kind]["expiration time"][:26].rstrip("Z") + "Z")
        for kind in ("inference", "management")
    ]
    written = datetime.fromtimestamp(path.stat().st_mtime, ends[0].tzinfo)
    assert all(abs((end - written).total_seconds() - 17 * 60) < 30 for end in ends)


@pytest.mark.row("2.4-off", "2.4-off-flag-wins")
@pytest.mark.parametrize(
    ("flags", "config", "env"),
    [
        pytest.param(("--disable-token-auth",), {}, {}, id="by the flag"),
        pytest.param((), {"disable_token_authorization": "true"}, {}, id="by the key"),
        pytest.param(
            (),
            {"enable_envvars_config": "true"},
            {"TS_DISABLE_TOKEN_AUTHORIZATION": "true"},
            id="by the variable",
        ),
        pytest.param(
            ("--disable-token-auth",),
            {"disable_token_authorization": "false"},
            {},
            id="by the flag, against the key",
        ),
    ],
)
def test_keys_are_switched_off(serve, flags, config, env):
    server = serve(config=config, env=env, default_flags=flags)
    assert server.inference("GET", "/ping").status == 200
    assert until(lambda: server.manage("GET", "/models").status == 200)
    assert server.manage("GET", "/models", headers={"Origin": "http://a.page"}).status == 200
    assert not (server.place.folder / "key_file.json").exists()
