"""Section 2.5: who may register and unregister."""

from __future__ import annotations

import pytest

pytestmark = [pytest.mark.process, pytest.mark.timeout(180)]

ECHO = """
    def handle(data, context):
        if data is not None:
            return ["x" for _ in data]
"""


@pytest.mark.row("2.5-switches")
@pytest.mark.parametrize(
    ("flags", "config", "env"),
    [
        pytest.param(("--enable-model-api",), {}, {}, id="the flag"),
        pytest.param((), {"enable_model_api": "true"}, {}, id="the key"),
        pytest.param(
            (),
            {"enable_envvars_config": "true"},
            {"TS_ENABLE_MODEL_API": "true"},
            id="the variable",
        ),
    ],
)
def test_the_model_api_is_switched_on(serve, flags, config, env):
    server = serve(config=config, env=env, default_flags=("--disable-token-auth", *flags))
    assert server.manage("POST", "/models", url=server.add_archive(ECHO, "m")).status == 200
    assert server.manage("DELETE", "/models/m").status == 200


@pytest.mark.row("2.5-default", only="ours")
def test_whoever_may_manage_may_register_unless_told_otherwise(serve):
    server = serve(default_flags=())
    assert server.manage("POST", "/models", url=server.add_archive(ECHO, "m")).status == 200
