"""Logs of every process: one line an event, plain or JSON, written straight to standard error.

In a worker, what the model's code prints and logs becomes such events too, with the model's name
and the id of the request at hand. Each process writes by itself: nobody else is slowed down by a
model that prints megabytes.
"""

from __future__ import annotations

import fcntl
import io
import json
import logging
import os
import queue
import select
import sys
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from logging.handlers import QueueHandler, QueueListener
from typing import cast

MAX_LINE_BYTES = 64 * 1024
MAX_TEXT_CHARS = 32 * 1024
MAX_NAME_CHARS = 200

# How long the last lines may take to be written when the process ends.
_LAST_LINES_SECONDS = 2.0

logger = logging.getLogger("modelyard")


@dataclass
class Context:
    """Whose code runs in this process now; empty outside workers."""

    model: str = ""
    request_id: str = ""


context = Context()


def _shorten(text: str, limit: int = MAX_NAME_CHARS) -> str:
    return text if len(text) <= limit else f"{text[:limit]}…({len(text)} characters)"


def _cut(text: str) -> str:
    """A text of megabytes without its middle: the end of a traceback says most."""
    if len(text) <= MAX_TEXT_CHARS:
        return text
    half = MAX_TEXT_CHARS // 2
    return f"{text[:half]} …({len(text)} characters)… {text[-half:]}"


def _timestamp(record: logging.LogRecord) -> str:
    whole = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
    return f"{whole}.{int(record.msecs):03d}Z"


def _labels(record: logging.LogRecord) -> Iterable[tuple[str, str]]:
    model = getattr(record, "model", context.model)
    request_id = getattr(record, "request_id", context.request_id)
    if model:
        yield "model", _shorten(model)
    if request_id:
        yield "request_id", _shorten(request_id)


class PlainFormatter(logging.Formatter):
    """``time LEVEL logger [model=… request_id=…] message``, then the traceback if there is one."""

    def format(self, record: logging.LogRecord) -> str:
        labels = "".join(f" {key}={value!r}" for key, value in _labels(record))
        start = f"{_timestamp(record)} {record.levelname:<7} {record.name}{labels}"
        line = f"{start} {_cut(record.getMessage())}"
        if record.exc_info:
            line += "\n" + _cut(self.formatException(record.exc_info))
        return line


class JsonFormatter(logging.Formatter):
    """One JSON object a line; a traceback is one string in ``exception``."""

    def format(self, record: logging.LogRecord) -> str:
        event = {
            "time": _timestamp(record),
            "level": record.levelname,
            "logger": record.name,
            **dict(_labels(record)),
            "message": _cut(record.getMessage()),
        }
        if record.exc_info:
            event["exception"] = _cut(self.formatException(record.exc_info))
        return json.dumps(event, ensure_ascii=False, default=str)


class LineHandler(logging.Handler):
    """Writes whole lines to a descriptor of its own, out of the reach of the model's code."""

    def __init__(self, fd: int = 2) -> None:
        super().__init__()
        # High up and closed on exec: user code that closes 1 and 2 does not close the log.
        self._fd = fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 100)

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self.write(self.format(record).encode("utf-8", "backslashreplace") + b"\n")
        except Exception:
            self.handleError(record)

    def write(self, data: bytes) -> None:
        """Write one or more whole lines, unmixed with those of other processes."""
        # For short lines too, which could land in the middle of a long one of another process. A
        # lock of the process, not of the descriptor: forks share that, and would share its lock.
        with suppress(OSError):  # some kinds of files have no locks
            fcntl.lockf(self._fd, fcntl.LOCK_EX)
        try:
            self._write(data)
        finally:
            with suppress(OSError):
                fcntl.lockf(self._fd, fcntl.LOCK_UN)

    def _write(self, data: bytes) -> None:
        while data:
            try:
                data = data[os.write(self._fd, data) :]
            except BlockingIOError:  # somebody made our standard error non-blocking
                select.select([], [self._fd], [])


def _handler(log_format: str) -> logging.Handler:
    handler = LineHandler()
    handler.setFormatter(JsonFormatter() if log_format == "json" else PlainFormatter())
    return handler


def configure(level: str, log_format: str) -> None:
    """Send the root logger to standard error; each call replaces what was there."""
    logging.raiseExceptions = False  # a broken log pipe must not add more output
    logging.basicConfig(level=level, handlers=[_handler(log_format)], force=True)


def configure_in_background(level: str, log_format: str) -> QueueListener:
    """The same, but written by a thread: for event loops, which a stalled log must not stop."""
    configure(level, log_format)
    records: queue.Queue[logging.LogRecord] = queue.Queue(maxsize=10_000)
    listener = _Writer(records, *logging.getLogger().handlers)
    front = _DroppingHandler(records)
    logging.basicConfig(level=level, handlers=[front], force=True)
    listener.start()
    return listener


class _Writer(QueueListener):
    """Writes in a thread, for whose last lines nobody waits for ever."""

    def stop(self) -> None:
        """Write what is queued, unless the log has stalled.

        Then this ends the process at once: the interpreter would wait for the thread's lock.
        """
        thread = self._thread
        with suppress(queue.Full):
            self.enqueue_sentinel()
        if thread is not None:
            thread.join(_LAST_LINES_SECONDS)
            if thread.is_alive():
                os._exit(0)
        self._thread = None


class _DroppingHandler(QueueHandler):
    """Drops events rather than wait when the log cannot be written as fast as they come."""

    def prepare(self, record: logging.LogRecord) -> logging.LogRecord:
        return record  # same process: no need to make it picklable

    def enqueue(self, record: logging.LogRecord) -> None:
        with suppress(queue.Full):
            self.queue.put_nowait(record)


class _PrintedLines(io.RawIOBase):
    """Turns what is written to it into log events, a line each, all lines of a write at once.

    Goes past the loggers, which would look for the calling source line each time: models that
    print megabytes do it five times faster so.
    """

    def __init__(self, handler: LineHandler, name: str, level: int, fd: int) -> None:
        self._handler, self._name, self._level, self._fd = handler, name, level, fd
        self._rest = b""

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._fd  # what a subprocess of the model's code writes to

    def write(self, data: bytes | bytearray | memoryview, /) -> int:  # type: ignore[override]
        *lines, self._rest = (self._rest + bytes(data)).split(b"\n")
        if len(self._rest) > MAX_LINE_BYTES:
            lines, self._rest = [*lines, self._rest], b""
        if logging.getLogger().isEnabledFor(self._level):
            events = b"".join(self._event(line) for line in lines if line.strip())
            with suppress(OSError):  # nobody reads the log: no reason for the model's code to fail
                self._handler.write(events)
        return len(data)

    def _event(self, line: bytes) -> bytes:
        text = line.decode("utf-8", "replace").rstrip()
        record = logging.LogRecord(self._name, self._level, "", 0, "%s", (text,), None)
        return self._handler.format(record).encode("utf-8", "backslashreplace") + b"\n"


def capture_prints() -> None:
    """Make ``print`` and writes to ``sys.stderr`` in this process log events."""
    handler = logging.getLogger().handlers[0]
    assert isinstance(handler, LineHandler)
    for name, level, fd in (("stdout", logging.INFO, 1), ("stderr", logging.WARNING, 2)):
        buffer = io.BufferedWriter(cast(io.RawIOBase, _PrintedLines(handler, name, level, fd)))
        stream = io.TextIOWrapper(buffer, encoding="utf-8", errors="replace", line_buffering=True)
        setattr(sys, name, stream)
