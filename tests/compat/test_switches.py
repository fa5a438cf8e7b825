"""Switches of config.properties that change what callers may do, over real HTTP."""

from __future__ import annotations

import json

import pytest

from tests.compat.server import call, serving, write_archive

pytestmark = [pytest.mark.process, pytest.mark.timeout(120)]


def configured(folder, *lines):
    (folder / "config.properties").write_text("\n".join(lines))
    write_archive(folder / "store")
    return serving(folder, "--ts-config", str(folder / "config.properties"))


def test_the_model_api_switched_off_says_how_to_switch_it_on(tmp_path):
    with configured(tmp_path, "enable_model_api=false") as server:
        for method, path in (("POST", "/models?url=echo-1.0.mar"), ("DELETE", "/models/echo")):
            answer = server.manage(method, path)
            assert (answer.status, answer.json["type"]) == (405, "MethodNotAllowedException")
            assert "enable_model_api=true" in answer.json["message"]
        assert server.manage("GET", "/models").status == 200


def test_the_strict_mode_asks_for_the_right_key_everywhere_but_on_health_paths(tmp_path):
    with configured(tmp_path, "disable_token_authorization=false") as server:
        keys = json.loads((tmp_path / "state" / "key_file.json").read_text())
        predict, manage = f"{server.inference}/predictions/x", f"{server.management}/models"
        for url, kind, other in (
            (predict, "inference", "management"),
            (manage, "management", "inference"),
        ):
            right, wrong = (f"Bearer {keys[name]['key']}" for name in (kind, other))
            assert call("GET", url).status == 400
            assert call("GET", url, Authorization=wrong).status == 400
            assert call("GET", url, Authorization=right).json.get("type") != "InvalidKeyException"
        assert call("GET", f"{server.inference}/ping").status == 200
        assert server.manage("GET", "/ready").status == 200
        assert call("GET", f"{server.metrics}/metrics").status == 200


def test_a_key_can_be_rotated_with_the_api_key(tmp_path):
    with configured(tmp_path, "disable_token_authorization=false") as server:
        path = tmp_path / "state" / "key_file.json"
        before = json.loads(path.read_text())
        right = f"Bearer {before['API']['key']}"
        assert server.manage("GET", "/token?type=inference").status == 400
        rotated = server.manage("GET", "/token?type=inference", Authorization=right)
        assert (rotated.status, rotated.body) == (200, b"\n")
        after = json.loads(path.read_text())
        assert after["inference"]["key"] != before["inference"]["key"]
        assert after["management"]["key"] == before["management"]["key"]


def test_server_wide_batch_settings_reach_a_model_that_says_nothing(tmp_path):
    with configured(tmp_path, "enable_batch=true", "batch_size=32", "max_batch_delay=50") as server:
        server.manage("POST", "/models?url=echo-1.0.mar")
        (described,) = server.manage("GET", "/models/echo").json
        assert (described["batchSize"], described["maxBatchDelay"]) == (32, 50)


def test_the_metrics_page_can_be_switched_off(tmp_path):
    with configured(tmp_path, "enable_metrics_api=false") as server:
        answer = call("GET", f"{server.metrics}/metrics")
        assert (answer.status, answer.body) == (200, b"")


def test_a_body_too_large_for_any_management_call_is_refused(tmp_path):
    with configured(tmp_path) as server:
        answer = server.manage(
            "POST", "/models", b" " * (1024 * 1024 + 1), Content_Type="application/json"
        )
        assert answer.status == 413
