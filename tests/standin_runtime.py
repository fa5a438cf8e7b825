"""A small real runtime for tests of local mode: a process that speaks what an operator expects.

It starts in a tenth of the real one's time and obeys orders hidden in a version's `env`:
`FAIL` (load fails with this message), `LOAD_S` (load takes so long). It keeps no model: an answer
says which process, model and version gave it. `GET /slow/<seconds>` on the inference port takes
its time, `POST /echo` returns its body, `POST /die` ends the process at once. With `stubborn=true`
in its configuration it does not hear SIGTERM.
"""

import argparse
import asyncio
import base64
import contextlib
import hashlib
import json
import os
import signal
import sys
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

PHRASES = {200: "OK", 202: "Accepted", 401: "Unauthorized", 404: "Not Found", 409: "Conflict"}


class Runtime:
    def __init__(self, flags):
        self.flags = flags
        self.boot_file = Path(flags.boot_file)
        self.state_dir = Path(flags.state_dir)
        self.stubborn = flags.ts_config and "stubborn=true" in Path(flags.ts_config).read_text()
        self.desired = None
        self.loaded = {}  # (model, version) -> phase, failure
        self.defaults = {}
        self.revision = 1
        self.draining = False
        self.news = asyncio.Event()
        self.loading = {}
        self.busy = 0

    # --- what is wanted, and how far it is ---

    def boot(self):
        candidates = [json.loads(self.boot_file.read_bytes())["document"]]
        with contextlib.suppress(OSError):
            candidates.append(json.loads((self.state_dir / "accepted.json").read_bytes()))
        self.want(max(candidates, key=lambda document: document["sequence"]))

    def want(self, document):
        self.desired = document
        (self.state_dir / "accepted.json").write_text(json.dumps(document))
        wanted = {
            (model["name"], entry["version"]): entry
            for model in document["models"]
            for entry in model["versions"]
        }
        for gone in set(self.loaded) - set(wanted):
            del self.loaded[gone]
            if gone in self.loading:
                self.loading.pop(gone).cancel()
        for which, entry in wanted.items():
            if which not in self.loaded:
                self.loaded[which] = ("Loading", None)
                self.loading[which] = asyncio.create_task(self.load(which, entry["env"]))
        self.settle()

    async def load(self, which, env):
        await asyncio.sleep(float(env.get("LOAD_S", 0)))
        if "FAIL" in env:
            failure = {"reason": "InitializeFailed", "message": env["FAIL"], "logTail": "boom"}
            self.loaded[which] = ("Failed", {**failure, "attempts": 1})
        else:
            self.loaded[which] = ("Ready", None)
        self.settle()

    def settle(self):
        for model in self.desired["models"]:
            if self.loaded.get((model["name"], model["default"]), ("",))[0] == "Ready":
                self.defaults[model["name"]] = model["default"]
        self.revision += 1
        self.news.set()
        self.news = asyncio.Event()

    @property
    def ready(self):
        return not self.draining and all(
            model["name"] in self.defaults
            for model in self.desired["models"]
            if model["required"] and model["default"]
        )

    def observed(self):
        return {
            "ready": self.ready,
            "draining": self.draining,
            "models": [self.model(model) for model in self.desired["models"]],
        }

    def model(self, model):
        return {
            "name": model["name"],
            "required": model["required"],
            "default": self.defaults.get(model["name"]),
            "ready": model["name"] in self.defaults,
            "versions": [self.version(model["name"], entry) for entry in model["versions"]],
        }

    def version(self, name, entry):
        phase, failure = self.loaded[name, entry["version"]]
        workers = entry["workers"]["min"]
        return {
            "version": entry["version"],
            "phase": phase,
            "weight": 100 if self.defaults.get(name) == entry["version"] else 0,
            "workers": {"wanted": workers, "ready": workers if phase == "Ready" else 0},
            "lastFailure": failure,
        }

    # --- the management port ---

    async def manage(self, method, path, headers, body):
        url = urlsplit(path)
        if url.path == "/ready":
            return (200 if self.ready else 503), {"ready": self.ready}
        refusal = self.refusal(headers, body)
        if refusal:
            return 401, {"code": 401, "type": "Unauthorised", "message": refusal}
        if (method, url.path) == ("GET", "/state"):
            return 200, await self.state(parse_qs(url.query))
        if (method, url.path) == ("PUT", "/state"):
            return self.put(json.loads(body))
        if (method, url.path) == ("POST", "/drain"):
            self.draining = True
            self.settle()
            return 202, {}
        return 404, {"code": 404, "type": "NotFound", "message": path}

    async def state(self, query):
        if query.get("after") == [str(self.revision)]:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(float(query["wait"][0].removesuffix("s"))):
                    await self.news.wait()
        return {
            "revision": self.revision,
            "processId": str(os.getpid()),
            "desired": self.desired,
            "observed": self.observed(),
        }

    def put(self, document):
        held = self.desired
        same = held == document
        stale = (
            document["owner"]["uid"] != self.flags.owner_uid
            or document["sequence"] < held["sequence"]
            or (document["sequence"] == held["sequence"] and not same)
        )
        if stale:
            current = {"uid": held["owner"]["uid"], "sequence": held["sequence"]}
            problem = {"code": 409, "type": "StaleDocument", "message": "fenced"}
            return 409, problem | {"current": current}
        if not same:
            self.want(document)
        return 202, {"revision": self.revision, "sequence": document["sequence"]}

    def refusal(self, headers, body):
        import jwt  # noqa: PLC0415  a third of the start-up time, and not needed to be ready
        from cryptography.hazmat.primitives.asymmetric.ed25519 import (  # noqa: PLC0415
            Ed25519PublicKey,
        )

        token = headers.get("authorization", "").removeprefix("Bearer ")
        why = "no key accepts it"
        for key in json.loads(self.boot_file.read_bytes())["publicKeys"]:
            public = Ed25519PublicKey.from_public_bytes(base64.urlsafe_b64decode(key))
            try:
                claims = jwt.decode(
                    token, public, ["EdDSA"], audience=self.flags.owner_uid, leeway=60
                )
            except jwt.InvalidTokenError as error:
                why = str(error)
                continue
            if claims["bodySha256"] == hashlib.sha256(body).hexdigest():
                return None
            why = "signed for another body"
        return why

    # --- the inference port ---

    async def infer(self, method, path, headers, body):
        del headers
        parts = path.strip("/").split("/")
        if parts[0] == "slow":
            await asyncio.sleep(float(parts[1]))
            return 200, {"pid": os.getpid()}
        if (method, path) == ("POST", "/echo"):
            return 200, body
        if (method, path) == ("POST", "/die"):
            os._exit(3)
        if parts[0] == "predictions" and parts[1] in self.defaults:
            return 200, {
                "pid": os.getpid(),
                "model": parts[1],
                "version": self.defaults[parts[1]],
            }
        return 404, {"code": 404, "type": "ModelNotFound", "message": path}

    def door(self, answer):
        async def serve(reader, writer):
            with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
                while await self.exchange(reader, writer, answer):
                    pass
            writer.close()

        return serve

    async def exchange(self, reader, writer, answer):
        """Answer one request; False when the connection shall end."""
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        method, path, _ = head[0].split(" ")
        headers = {
            name.lower(): value.strip()
            for name, _, value in (line.partition(":") for line in head[1:] if line)
        }
        body = await reader.readexactly(int(headers.get("content-length", 0)))
        self.busy += answer == self.infer  # a long poll keeps nobody from leaving
        try:
            status, content = await answer(method, path, headers, body)
            raw = content if isinstance(content, bytes) else json.dumps(content).encode()
            last = self.draining or headers.get("connection", "").lower() == "close"
            writer.write(
                f"HTTP/1.1 {status} {PHRASES.get(status, 'Unknown')}\r\n"
                f"content-length: {len(raw)}\r\n"
                f"connection: {'close' if last else 'keep-alive'}\r\n\r\n".encode()
                + raw
            )
            await writer.drain()
        finally:
            self.busy -= answer == self.infer
        return not last


async def main(flags):
    runtime = Runtime(flags)
    runtime.state_dir.mkdir(parents=True, exist_ok=True)
    stop = asyncio.Event()
    on_sigterm = (lambda: None) if runtime.stubborn else stop.set
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, on_sigterm)
    runtime.boot()
    inference = await asyncio.start_server(runtime.door(runtime.infer), "127.0.0.1", 0)
    management = await asyncio.start_server(runtime.door(runtime.manage), "127.0.0.1", 0)
    where = {
        name: f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        for name, server in (("inference", inference), ("management", management))
    }
    partial = runtime.state_dir / "listening.partial"
    partial.write_text(json.dumps({"pid": os.getpid(), **where, "metrics": where["management"]}))
    partial.replace(runtime.state_dir / "listening.json")
    print("listening", flush=True)  # noqa: T201  its log
    await stop.wait()
    runtime.draining = True
    inference.close()
    while runtime.busy:  # noqa: ASYNC110  the plainest way
        await asyncio.sleep(0.01)
    os._exit(0)


def flags(argv):
    parser = argparse.ArgumentParser()
    for name in ("inference-address", "management-address", "metrics-address"):
        parser.add_argument(f"--{name}")
    parser.add_argument("--state-dir", required=True)
    parser.add_argument("--boot-file", required=True)
    parser.add_argument("--owner-uid", required=True)
    parser.add_argument("--ts-config")
    return parser.parse_args(argv)


if __name__ == "__main__":
    asyncio.run(main(flags(sys.argv[1:])))
