"""An API server in this process, for what a real one cannot be made to do: lose history, fall
silent, talk nonsense."""

import asyncio
import contextlib
import json

from aiohttp import web
from kubernetes.aio.client.configuration import Configuration

from flambeau_operator.kubernetes.client import Api


class FakeApi:
    """One collection of pods, and answers that a test prescribes.

    Attributes:
        lists: the versions at which the collection was listed.
        watches: the versions from which it was watched.
        answers: prescribed answers to the next requests: status, headers, body.
    """

    def __init__(self):
        self.objects = {}
        self.version = 100
        self.lists = []
        self.watches = []
        self.answers = []
        self.asked = []
        self._streams = []

    def put(self, name, owner="vision", *, tell=True, **labels):
        """Create or change a pod, and tell those who watch unless they shall miss it."""
        kind = "MODIFIED" if name in self.objects else "ADDED"
        self.version += 1
        self.objects[name] = pod(name, owner, self.version, **labels)
        if tell:
            self.say({"type": kind, "object": self.objects[name]})

    def remove(self, name, *, tell=True):
        """Delete a pod."""
        self.version += 1
        gone = self.objects.pop(name)
        if tell:
            self.say({"type": "DELETED", "object": gone})

    def say(self, event):
        """Send an event, or a line that is none, to those who watch."""
        line = event if isinstance(event, bytes) else json.dumps(event).encode()
        for stream in self._streams:
            stream.put_nowait(line + b"\n")

    def hang_up(self):
        """End every watch, as an API server does now and then."""
        for stream in self._streams:
            stream.put_nowait(None)

    def lose_history(self):
        """Tell those who watch that what they ask for is not known any more."""
        status = {"kind": "Status", "code": 410, "reason": "Expired", "message": "too old"}
        self.say({"type": "ERROR", "object": status})

    @contextlib.asynccontextmanager
    async def serving(self):
        """Answer on a port of this machine; yields a client."""
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self._answer)
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        host, port = runner.addresses[0]
        try:
            async with Api(Configuration(host=f"http://{host}:{port}")) as api:
                yield api
        finally:
            self.hang_up()
            await runner.cleanup()

    async def _answer(self, request):
        self.asked.append((request.method, request.path, dict(request.query)))
        if self.answers:
            status, headers, body = self.answers.pop(0)
            return web.Response(status=status, headers=headers, body=body)
        if request.query.get("watch"):
            return await self._stream(request)
        self.lists.append(self.version)
        metadata = {"resourceVersion": str(self.version)}
        return web.json_response({"metadata": metadata, "items": list(self.objects.values())})

    async def _stream(self, request):
        self.watches.append(int(request.query["resourceVersion"]))
        lines = asyncio.Queue()
        # As a real one: what has happened since that version comes first.
        for body in self.objects.values():
            if int(body["metadata"]["resourceVersion"]) > self.watches[-1]:
                lines.put_nowait(json.dumps({"type": "MODIFIED", "object": body}).encode() + b"\n")
        self._streams.append(lines)
        response = web.StreamResponse()
        await response.prepare(request)
        try:
            while (line := await lines.get()) is not None:
                await response.write(line)
        finally:
            self._streams.remove(lines)
        return response


def pod(name, owner, version, **labels):
    metadata = {
        "name": name,
        "namespace": "team",
        "uid": f"uid-{name}",
        "resourceVersion": str(version),
        "labels": {"serving.flambeau.dev/name": owner, **labels},
    }
    return {"metadata": metadata, "status": {"phase": "Running"}}


def refusal(status, reason, message, **headers):
    """Return a prescribed answer: a Status object as an API server sends it."""
    body = {"kind": "Status", "code": status, "reason": reason, "message": message}
    return status, headers, json.dumps(body).encode()
