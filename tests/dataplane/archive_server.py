"""A web server for archives that misbehaves as it is told."""

import contextlib
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class ArchiveServer(ThreadingHTTPServer):
    """Serves `content` under every path; what happens otherwise is set on it."""

    daemon_threads = True

    def __init__(self, content: bytes):
        super().__init__(("127.0.0.1", 0), _Answer)
        self.content = content
        self.etag = '"one"'
        self.cut_after: list[int] = []  # bytes to send before hanging up, per request
        self.statuses: list[int] = []  # answers before the content, per request
        self.stall_after: int | None = None  # bytes to send before falling silent
        self.closing = threading.Event()
        self.redirect: str | None = None
        self.knows_ranges = True
        self.asked: list[dict[str, str]] = []  # headers of each request

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/x.mar"

    def handle_error(self, request, client_address):
        """A client that leaves is part of the tests."""


class _Answer(BaseHTTPRequestHandler):
    server: ArchiveServer

    def do_GET(self):
        server = self.server
        server.asked.append({name.lower(): value for name, value in self.headers.items()})
        if server.redirect is not None:
            return self._empty(302, Location=server.redirect)
        if server.statuses:
            return self._empty(server.statuses.pop(0))
        return self._content(server)

    def _empty(self, status, **headers):
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def _content(self, server):
        start = self._start(server)
        self.send_response(206 if start else 200)
        if start:
            last = len(server.content) - 1
            self.send_header("Content-Range", f"bytes {start}-{last}/{len(server.content)}")
        self.send_header("Content-Length", str(len(server.content) - start))
        if server.etag:
            self.send_header("ETag", server.etag)
        self.end_headers()
        end = start + server.cut_after.pop(0) if server.cut_after else len(server.content)
        if server.stall_after is not None:
            self.wfile.write(server.content[start : start + server.stall_after])
            server.closing.wait()
            return
        self.wfile.write(server.content[start:end])
        self.close_connection = True

    def _start(self, server):
        wanted = self.headers.get("Range")
        same = self.headers.get("If-Range") == server.etag
        if not (wanted and same and server.knows_ranges):
            return 0
        return int(wanted.removeprefix("bytes=").removesuffix("-"))

    def log_message(self, *args):
        """Say nothing."""


@contextlib.contextmanager
def serving(content: bytes, context=None):
    server = ArchiveServer(content)
    if context is not None:
        server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server
    finally:
        server.closing.set()
        server.shutdown()
        server.server_close()
        thread.join()
