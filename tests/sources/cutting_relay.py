"""Connections to a real server that are cut as it is told: what cables and balancers do."""

import contextlib
import re
import socket
import threading

CUT_AFTER = 1_000_000
RANGE = re.compile(rb"\r\n[Rr]ange: bytes=(\d+)-")


class CuttingRelay:
    """Passes connections on to 127.0.0.1:PORT.

    `cut` says for the beginning of a range how often its answer is cut after 1 MB; `ranges` are the
    beginnings of those that were asked for.
    """

    def __init__(self, port: int):
        self.cut: dict[int, int] = {}
        self.cut_whole: bytes | None = None  # in the path of a request without a range, cut once
        self.ranges: list[int] = []
        self._target = port
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port = self._listening.getsockname()[1]
        self._open: list[socket.socket] = []

    def run(self):
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listening.accept()
                server = socket.create_connection(("127.0.0.1", self._target))
                self._open += [client, server]
                doomed = threading.Event()
                for pass_on, source, sink in (
                    (self._ask, client, server),
                    (self._answer, server, client),
                ):
                    threading.Thread(
                        target=self._until_cut, args=(pass_on, source, sink, doomed), daemon=True
                    ).start()

    def _until_cut(self, pass_on, source, sink, doomed):
        with contextlib.suppress(OSError):
            pass_on(source, sink, doomed)
        for each in (source, sink):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)

    def _ask(self, client, server, doomed):
        while chunk := client.recv(65_536):
            asks_for_all = chunk.startswith(b"GET ") and RANGE.search(chunk) is None
            if self.cut_whole and asks_for_all and self.cut_whole in chunk.partition(b"\r\n")[0]:
                self.cut_whole = None
                doomed.set()
            for start in map(int, RANGE.findall(chunk)):
                self.ranges.append(start)
                if self.cut.get(start, 0) > 0:
                    self.cut[start] -= 1
                    doomed.set()
            server.sendall(chunk)

    def _answer(self, server, client, doomed):
        sent = 0
        while chunk := server.recv(65_536):
            client.sendall(chunk)
            sent += len(chunk)
            if doomed.is_set() and sent > CUT_AFTER:
                return

    def close(self):
        self._listening.shutdown(socket.SHUT_RDWR)
        for each in (self._listening, *self._open):
            each.close()


@contextlib.contextmanager
def cutting(port: int):
    relay = CuttingRelay(port)
    thread = threading.Thread(target=relay.run)
    thread.start()
    try:
        yield relay
    finally:
        relay.close()
        thread.join()
