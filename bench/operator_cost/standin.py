"""Answers for pods that pretend to run: `python -m bench.operator_cost.standin KUBECONFIG`.

Runs in the cluster's network, where all addresses of such pods lead to this process. The address
that was called tells which pod is meant; each boots from its ModelDeployment's ConfigMap and
answers as `tests.standin_runtime` does: signatures are checked, documents fenced, models ready at
once. Ends with its standard input.
"""

import asyncio
import base64
import json
import ssl
import sys
import tempfile
from argparse import Namespace
from pathlib import Path
from typing import Any

import aiohttp
from tests.standin_runtime import Runtime

PORT = 8081
OURS = "app.kubernetes.io/managed-by=flambeau"
UID = "serving.flambeau.dev/uid"
NAME = "serving.flambeau.dev/name"


class Pods:
    """Every pod that has been called.

    Args:
        kubeconfig: of the administrator.
        folder: for what runtimes keep on disk.
    """

    def __init__(self, kubeconfig: Path, folder: Path) -> None:
        config = json.loads(kubeconfig.read_text())
        server = config["clusters"][0]["cluster"]
        authority = base64.b64decode(server["certificate-authority-data"]).decode()
        self._server = server["server"]
        self._trusted = ssl.create_default_context(cadata=authority)
        self._headers = {"Authorization": f"Bearer {config['users'][0]['user']['token']}"}
        self._folder = folder
        self._runtimes: dict[str, Runtime] = {}
        self._looking = asyncio.Lock()

    async def at(self, address: str) -> Runtime | None:
        """Return who answers at an address; None when no pod has it."""
        async with self._looking:
            if address not in self._runtimes:
                await self._look()
        return self._runtimes.get(address)

    async def _look(self) -> None:
        pods, sets = await asyncio.gather(self._list("pods"), self._list("configmaps"))
        boot_files = {_owner(each): each["data"]["models.json"] for each in sets}
        for pod in pods:
            address = pod.get("status", {}).get("podIP")
            boot_file = boot_files.get(_owner(pod))
            if address and boot_file and address not in self._runtimes:
                self._runtimes[address] = self._booted(address, pod, boot_file)

    def _booted(self, address: str, pod: dict[str, Any], content: str) -> Runtime:
        folder = self._folder / address
        folder.mkdir()
        boot_file = folder / "models.json"
        boot_file.write_text(content)
        runtime = Runtime(
            Namespace(
                boot_file=boot_file,
                state_dir=folder,
                ts_config=None,
                owner_uid=pod["metadata"]["labels"][UID],
            )
        )
        runtime.boot()
        return runtime

    async def _list(self, plural: str) -> list[dict[str, Any]]:
        url = f"{self._server}/api/v1/{plural}?labelSelector={OURS}"
        async with (
            aiohttp.ClientSession(headers=self._headers) as session,
            session.get(url, ssl=self._trusted) as answer,
        ):
            answer.raise_for_status()
            return (await answer.json())["items"]


def _owner(body: dict[str, Any]) -> tuple[str, str]:
    return body["metadata"]["namespace"], body["metadata"]["labels"][NAME]


async def main(kubeconfig: Path, folder: Path) -> None:
    """Answer until standard input ends."""
    pods = Pods(kubeconfig, folder)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        runtime = await pods.at(writer.get_extra_info("sockname")[0])
        if runtime is None:
            writer.close()
            return
        await runtime.door(runtime.manage)(reader, writer)

    server = await asyncio.start_server(serve, "0.0.0.0", PORT, backlog=512)  # noqa: S104  theirs
    async with server:
        print("listening", flush=True)
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as here:
        asyncio.run(main(Path(sys.argv[1]), Path(here)))
