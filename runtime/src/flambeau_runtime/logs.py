"""Where log lines go: JSON lines on stdout, or the files that TorchServe writes.

Modules log to `logging.getLogger(__name__)` with a constant event name and fields in `extra`;
workers' output goes to the logger `MODEL_OUTPUT`. Every line is formatted and written by one
thread, so that a slow disk or a full pipe never holds up the event loop; when that thread cannot
keep up, lines are dropped and counted.
"""

from __future__ import annotations

import ipaddress
import json
import logging
import logging.handlers
import queue
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TextIO

from flambeau_runtime.console import Console
from flambeau_runtime.errors import InvalidSettings
from flambeau_runtime.rolling_file import RollingFile

FRONT = "flambeau_runtime"
"""Parent of every logger of ours; `ts_log.log` in TorchServe's layout."""

MODEL_OUTPUT = "flambeau_runtime.serving.worker_output"
"""What workers print, a record per line: the field `line` is it; `model_log.log`."""

CONSOLE = f"{FRONT}.console"
"""Whole sentences for who starts the server: they are shown as they are, and in no file."""

FRONT_METRICS = f"{FRONT}.ts_metrics"
MODEL_METRICS = f"{FRONT}.model_metrics"
"""Measurements, a record per line: `ts_metrics.log` and `model_metrics.log`; the field `line` ends
where the time goes (`recorder.py`)."""

_FILES = {
    FRONT_METRICS: "ts_metrics.log",
    MODEL_METRICS: "model_metrics.log",
    MODEL_OUTPUT: "model_log.log",
}
_LOGGERS = {
    FRONT_METRICS: "TS_METRICS",
    MODEL_METRICS: "MODEL_METRICS",
    MODEL_OUTPUT: "MODEL_LOG",
}
"""What TorchServe calls them; all else goes to `ts_log.log`, under its own name."""

LINES_WAITING = 10_000
FLUSH_S = 0.2

_OWN_FIELDS = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


def extra_fields(record: logging.LogRecord) -> dict[str, object]:
    """Return what the caller passed as `extra`."""
    return {name: value for name, value in vars(record).items() if name not in _OWN_FIELDS}


def _traceback(record: logging.LogRecord) -> str:
    if record.exc_info and not record.exc_text:
        return logging.Formatter().formatException(record.exc_info)
    return record.exc_text or ""


class JsonLines(logging.Formatter):
    """One JSON object per record: time (UTC), level, logger, event, fields, traceback."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as one line of JSON."""
        line: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "event": record.getMessage(),
            **extra_fields(record),
        }
        if traceback := _traceback(record):
            line["traceback"] = traceback
        return json.dumps(line, default=str)


def _local_time(created: float) -> str:
    # TorchServe's log4j pattern is %d{ISO8601}: local time, comma before the milliseconds.
    moment = datetime.fromtimestamp(created).astimezone()
    return f"{moment:%Y-%m-%dT%H:%M:%S},{moment.microsecond // 1000:03d}"


class TorchServeLines(logging.Formatter):
    """TorchServe's layout, `time [LEVEL] thread logger - message`, and our fields behind it."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the record in the layout of TorchServe's `ts_log.log` and `model_log.log`."""
        fields = extra_fields(record)
        thread = fields.pop("worker", record.threadName)
        logger = _LOGGERS.get(record.name, record.name)
        said = fields.pop("line", None)
        said = record.getMessage() if said is None else _measured(record, str(said))
        level = {"WARNING": "WARN", "CRITICAL": "FATAL"}.get(record.levelname, record.levelname)
        tail = "".join(f" {name}={value}" for name, value in fields.items())
        start = f"{_local_time(record.created)} [{level:<5}] {thread} {logger} - "
        line = f"{start}{said}{tail}"
        if traceback := _traceback(record):
            line += f"\n{traceback}"
        return line


class MetricLines(logging.Formatter):
    """TorchServe's layout of measurements: time, a hyphen, the line."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as one line of a metrics log."""
        line = _measured(record, str(extra_fields(record).get("line", "")))
        return f"{_local_time(record.created)} - {line}"


def _measured(record: logging.LogRecord, line: str) -> str:
    """Return the line of a record; a measurement's ends in its time, in seconds."""
    measures = record.name in {FRONT_METRICS, MODEL_METRICS}
    return f"{line}{int(record.created)}" if measures else line


class _Forwarder(logging.handlers.QueueHandler):
    """Puts records on the writer's queue as they are, and counts those that find no room."""

    dropped = 0

    def prepare(self, record: logging.LogRecord) -> logging.LogRecord:
        record.msg, record.args = record.getMessage(), None
        if record.exc_info:
            record.exc_text = logging.Formatter().formatException(record.exc_info)
            record.exc_info = None
        return record

    def enqueue(self, record: logging.LogRecord) -> None:
        try:
            self.queue.put_nowait(record)
        except queue.Full:
            self.dropped += 1


def _caller(peer: str) -> str:
    """Return "ip:port" as Java prints it; who comes through a unix socket has neither."""
    host, _, port = peer.rpartition(":")
    if port == "0":
        return host
    if ":" in host:
        parts = ipaddress.IPv6Address(host.partition("%")[0]).exploded.split(":")
        host = "[" + ":".join(f"{int(part, 16):x}" for part in parts) + "]"
    return f"/{host}:{port}"


class AccessLog:
    """`access_log.log`: a line per request, noted on the loop, written by a thread of its own."""

    def __init__(self, sink: logging.Handler) -> None:
        self._sink = sink
        self._noted: list[tuple[datetime, str, str, str, int, float]] = []
        self._stop = threading.Event()
        self._writer = threading.Thread(
            target=self._write_now_and_then, name="access-log", daemon=True
        )

    def note(self, peer: str, method: str, target: str, status: int, elapsed_ms: float) -> None:
        """Remember one answered request; `peer` is "ip:port". Cheap enough for the hot path."""
        if len(self._noted) < LINES_WAITING:
            self._noted.append((datetime.now(UTC), peer, method, target, status, elapsed_ms))

    def start(self) -> None:
        """Start the writing thread."""
        self._writer.start()

    def close(self) -> None:
        """Write what is left and end the thread."""
        self._stop.set()
        self._writer.join()
        self._sink.close()

    def _write_now_and_then(self) -> None:
        while not self._stop.wait(FLUSH_S):
            self._flush()
        self._flush()

    def _flush(self) -> None:
        noted, self._noted = self._noted, []
        for moment, peer, method, target, status, elapsed_ms in noted:
            version = "2.0" if method == "gRPC" else "1.1"
            text = f'{_caller(peer)} "{method} {target} HTTP/{version}" {status} {elapsed_ms:.0f}'
            self._sink.handle(
                logging.makeLogRecord({"msg": text, "created": moment.timestamp(), "levelno": 20})
            )


class _AccessLines(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return f"{_local_time(record.created)} - {record.getMessage()}"


def _rolling(path: Path, formatter: logging.Formatter) -> logging.Handler:
    handler = RollingFile(path)
    handler.setFormatter(formatter)
    return handler


def _torchserve_files(log_dir: Path, metrics_dir: Path) -> list[logging.Handler]:
    try:
        for folder in (log_dir, metrics_dir):
            folder.mkdir(parents=True, exist_ok=True)
        for file in ("ts_log.log", "model_log.log", "access_log.log"):
            (log_dir / file).touch()
        for file in ("ts_metrics.log", "model_metrics.log"):
            (metrics_dir / file).touch()
    except OSError as error:
        raise InvalidSettings(
            f"{error.filename}: logs cannot be written there ({error.strerror}): start in a folder"
            " of your own, or name one with LOG_LOCATION and METRICS_LOCATION"
        ) from None
    server = _rolling(log_dir / "ts_log.log", TorchServeLines())
    server.addFilter(lambda record: record.name not in {*_FILES, CONSOLE})
    handlers = [server]
    for name, file in _FILES.items():
        measures = name in {FRONT_METRICS, MODEL_METRICS}
        folder, lines = (metrics_dir, MetricLines()) if measures else (log_dir, TorchServeLines())
        handler = _rolling(folder / file, lines)
        handler.addFilter(logging.Filter(name))
        handlers.append(handler)
    return handlers


class _ConsoleLines(TorchServeLines):
    def format(self, record: logging.LogRecord) -> str:
        return record.getMessage() if record.name == CONSOLE else super().format(record)


def _console(descriptor: int) -> logging.Handler:
    handler = Console(descriptor)
    handler.setFormatter(_ConsoleLines())
    return handler


def _stream(stream: TextIO, formatter: logging.Formatter) -> logging.Handler:
    handler = logging.StreamHandler(stream)
    handler.setFormatter(formatter)
    return handler


@contextmanager
def writing(
    log_dir: Path | None,
    level: str = "INFO",
    *,
    console: int | None = 1,
    metrics_dir: Path | None = None,
) -> Iterator[AccessLog | None]:
    """Write log lines until the block is left.

    Args:
        log_dir: TorchServe's files are written there; None means JSON lines on stdout.
        level: the lowest level that is written.
        metrics_dir: where the logs of measurements are written, if not in `log_dir`.
        console: with `log_dir`, the descriptor that shows the lines too; None for none.

    Yields:
        The access log, or None where none is written.
    """
    handlers: list[logging.Handler] = []
    access: AccessLog | None = None
    if log_dir is None:
        handlers.append(_stream(sys.stdout, JsonLines()))
    else:
        handlers.extend(_torchserve_files(log_dir, metrics_dir or log_dir))
        access = AccessLog(_rolling(log_dir / "access_log.log", _AccessLines()))
        if console is not None:
            handlers.append(_console(console))
    with _listening(handlers, level):
        if access is None:
            yield None
            return
        access.start()
        try:
            yield access
        finally:
            access.close()


@contextmanager
def _listening(handlers: Sequence[logging.Handler], level: str) -> Iterator[None]:
    waiting: queue.Queue[logging.LogRecord] = queue.Queue(LINES_WAITING)
    listener = logging.handlers.QueueListener(waiting, *handlers)
    # Otherwise it says three sentences per listener at every start and stop.
    logging.getLogger("uvicorn").setLevel(logging.WARNING)
    forwarder = _Forwarder(waiting)
    root = logging.getLogger()
    before = root.level
    root.addHandler(forwarder)
    root.setLevel(level)
    listener.start()
    try:
        yield
    finally:
        root.removeHandler(forwarder)
        root.setLevel(before)
        listener.stop()
        for handler in handlers:
            handler.close()
        if forwarder.dropped:
            sys.stderr.write(f"{forwarder.dropped} log lines were dropped: the log was too slow\n")
