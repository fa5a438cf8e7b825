"""How the API server is reached: as the kubeconfig says, and nothing else."""

import json

import pytest
from aiohttp import web

from flambeau_operator.kubernetes.client import Api, configuration


@pytest.fixture
async def api_server():
    """Answers everything with an object, and keeps what it was asked with."""
    asked = []

    async def answer(request):
        asked.append(request.headers.get("Authorization"))
        return web.json_response({"kind": "Pod"})

    app = web.Application()
    app.router.add_get("/{path:.*}", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    host, port = runner.addresses[0]
    yield f"http://{host}:{port}", asked
    await runner.cleanup()


def kubeconfig(folder, server):
    path = folder / "kubeconfig"
    here = {"name": "here", "context": {"cluster": "here", "user": "here"}}
    path.write_text(
        json.dumps(
            {
                "current-context": "here",
                "contexts": [here],
                "clusters": [{"name": "here", "cluster": {"server": server}}],
                "users": [{"name": "here", "user": {"token": "ours"}}],
            }
        )
    )
    return path


async def test_neither_netrc_nor_a_proxy_of_the_environment_comes_between(
    api_server, tmp_path, monkeypatch
):
    server, asked = api_server
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login somebody password else\n")
    monkeypatch.setenv("NETRC", str(netrc))
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    async with Api(await configuration(kubeconfig(tmp_path, server))) as api:
        assert await api.get("/api/v1/namespaces/team/pods/vision") == {"kind": "Pod"}
    assert asked == ["Bearer ours"]
