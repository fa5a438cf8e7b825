"""What Google, Azure and Hugging Face answer to the few questions of a fetch, over real HTTP.

Written after their public API descriptions. Each keeps `objects` and can be told to misbehave.
"""

import base64
import contextlib
import hashlib
import json
import re
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit

COMMIT = "c0" * 20


class StandIn(ThreadingHTTPServer):
    """One store; `objects` maps paths to contents."""

    daemon_threads = True

    def __init__(self, answer: type[BaseHTTPRequestHandler], objects: dict[str, bytes]):
        super().__init__(("127.0.0.1", 0), answer)
        self.objects = objects
        self.asked: list[tuple[str, dict[str, str]]] = []  # method and path, headers
        self.cut_after: dict[int, int | None] = {}  # first byte asked for → bytes to send, once
        self.generation = 1
        self.once_asked: Callable[[], None] | None = None  # called before any content is sent
        self.redirect: str | None = None
        self.open_to: str | None = None  # the Authorization that opens it; None: everybody may

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def gets_of_content(self):
        return [headers for line, headers in self.asked if "#content" in line]

    def handle_error(self, request, client_address):
        """A client that leaves is part of the tests."""


class Answer(BaseHTTPRequestHandler):
    """The manners that all of them have."""

    server: StandIn
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        self.begin()
        if self.server.redirect is not None:
            return self.empty(302, Location=self.server.redirect)
        known = self.server.open_to in {None, self.headers.get("Authorization")}
        if not known and self.url.path != "/token":
            return self.empty(401)
        return self.answer()

    do_HEAD = do_POST = do_GET  # noqa: N815  http.server's names

    def begin(self):
        length = int(self.headers.get("Content-Length") or 0)
        self.body = self.rfile.read(length)
        self.url = urlsplit(self.path)
        self.query = {key: values[0] for key, values in parse_qs(self.url.query).items()}
        headers = {name.lower(): value for name, value in self.headers.items()}
        self.server.asked.append((f"{self.command} {self.path}", headers))

    def empty(self, status, **headers):
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def json(self, found, **headers):
        text = json.dumps(found).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(text)

    def content(self, content, **headers):
        line, told = self.server.asked[-1]
        self.server.asked[-1] = (f"{line} #content", told)
        wanted = self.headers.get("Range") or self.headers.get("x-ms-range")
        first, last = 0, len(content) - 1
        if wanted:
            start, _, end = wanted.removeprefix("bytes=").partition("-")
            first, last = int(start), min(int(end or last), last)
        part = content[first : last + 1]
        if self.server.once_asked is not None:
            then, self.server.once_asked = self.server.once_asked, None
            then()
        self.send_response(206 if wanted else 200)
        if wanted:
            self.send_header("Content-Range", f"bytes {first}-{last}/{len(content)}")
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(part)))
        self.end_headers()
        if self.command == "HEAD":
            return
        cut = self.server.cut_after.get(first)
        if cut is not None and len(part) > cut:
            del self.server.cut_after[first]
            self.wfile.write(part[:cut])
            self.close_connection = True
            return
        self.wfile.write(part)

    def log_message(self, *args):
        """Say nothing."""


class Google(Answer):
    """The JSON API: the facts of an object, and its content of one generation."""

    def answer(self):
        if self.url.path == "/token":
            return self.json({"access_token": "opened", "expires_in": 3600, "token_type": "Bearer"})
        found = re.fullmatch(r"(?:/download)?/storage/v1/b/([^/]+)/o/(.+)", self.url.path)
        path = found and f"{found[1]}/{unquote(found[2])}"
        content = self.server.objects.get(path)
        generation = str(self.server.generation)
        if content is None or self.query.get("generation", generation) != generation:
            return self.empty(404)
        if self.query.get("alt") == "media":
            return self.content(content)
        bucket, _, name = path.partition("/")
        return self.json(
            {
                "kind": "storage#object",
                "bucket": bucket,
                "name": name,
                "size": str(len(content)),
                "generation": generation,
                "mediaLink": f"{self.server.url}/download{self.path}?alt=media",
                "updated": "2026-01-01T00:00:00Z",
                "timeCreated": "2026-01-01T00:00:00Z",
            }
        )


class Azure(Answer):
    """The Blob service: properties of a blob, and ranges of it while its ETag is the same."""

    def answer(self):
        content = self.server.objects.get(unquote(self.url.path.removeprefix("/account/")))
        if content is None:
            return self.empty(404, x_ms_error_code="BlobNotFound")
        etag = f'"0x{self.server.generation}"'
        if self.headers.get("If-Match", etag) != etag:
            return self.empty(412, x_ms_error_code="ConditionNotMet")
        return self.content(
            content,
            ETag=etag,
            Last_Modified="Thu, 01 Jan 2026 00:00:00 GMT",
            x_ms_blob_type="BlockBlob",
            x_ms_version="2026-01-01",
            Content_Type="application/octet-stream",
        )


class Hub(Answer):
    """A hub with one repository, org/repo, and one commit of it: `main`."""

    def answer(self):
        api = "/api/models/org/repo/"
        path = unquote(self.url.path)
        if path in {f"{api}revision/main", f"{api}revision/{COMMIT}", api.rstrip("/")}:
            return self.json({"id": "org/repo", "modelId": "org/repo", "sha": COMMIT, "tags": []})
        if path == f"{api}tree/{COMMIT}":
            return self.json([self.facts(name) for name in sorted(self.server.objects)])
        if path == f"{api}paths-info/{COMMIT}":
            asked = parse_qs(self.body.decode())["paths"]
            return self.json([self.facts(name) for name in self.server.objects if name in asked])
        name = path.removeprefix(f"/org/repo/resolve/{COMMIT}/")
        if name in self.server.objects:
            return self.content(self.server.objects[name], ETag='"x"')
        return self.empty(404, X_Error_Code="RepoNotFound")

    def facts(self, name):
        content = self.server.objects[name]
        facts = {"type": "file", "path": name, "size": len(content), "oid": git_oid(content)}
        if len(content) > 1_000_000:
            oid = hashlib.sha256(content).hexdigest()
            facts["lfs"] = {"oid": oid, "size": len(content), "pointerSize": 130}
        return facts


def git_oid(content):
    return hashlib.sha1(f"blob {len(content)}\0".encode() + content).hexdigest()  # noqa: S324  git's


class Registry(Answer):
    """A registry that asks for a token: `objects` are blobs and manifests, by digest or tag."""

    def answer(self):
        if self.url.path == "/token":
            if self.server.login and self.headers.get("Authorization") != self.server.login:
                return self.empty(401)
            return self.json({"token": f"for {self.query['scope']}"})
        if self.server.realm and not (self.headers.get("Authorization") or "").startswith("Bearer"):
            challenge = f'Bearer realm="{self.server.realm}",service="s",scope="repository:r:pull"'
            return self.empty(401, WWW_Authenticate=challenge)
        name = self.url.path.rpartition("/")[2]
        content = self.server.objects.get(name)
        if content is None:
            return self.empty(404)
        return self.content(content)


def basic(user, password):
    return f"Basic {base64.b64encode(f'{user}:{password}'.encode()).decode()}"


@contextlib.contextmanager
def standing_in(answer, objects):
    server = StandIn(answer, objects)
    server.realm = server.login = None
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
