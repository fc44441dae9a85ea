"""A small S3 over real sockets, for what moto's never does: break off, stall, lie and refuse."""

from __future__ import annotations

import re
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

BUCKET = "bucket"


@dataclass
class Refusal:
    """An answer instead of the object."""

    status: int
    code: str

    def body(self) -> bytes:
        text = f"<Error><Code>{self.code}</Code><Message>{self.code} it is</Message></Error>"
        return f'<?xml version="1.0" encoding="UTF-8"?>{text}'.encode()


@dataclass
class S3:
    """One bucket of objects, and what befalls those who ask for them."""

    url: str = ""
    objects: dict[str, bytes] = field(default_factory=dict)
    etag: str = '"first"'
    # Of each GET, in order: the range that was asked for.
    ranges: list[str | None] = field(default_factory=list)
    # Taken one for each GET: so many bytes come, then the connection ends.
    cuts: deque[int] = field(default_factory=deque)
    # Taken one for each request.
    refusals: deque[Refusal] = field(default_factory=deque)
    refuse_always: Refusal | None = None
    # Called with the range before a GET is looked at, in the server's thread.
    before_get: Callable[[str | None], None] = lambda asked: None
    ignores_ranges: bool = False
    ignores_if_match: bool = False
    # Once the body has come to this byte, it waits for ``go_on``, after setting ``stalled``.
    stall_after: int | None = None
    stalled: threading.Event = field(default_factory=threading.Event)
    go_on: threading.Event = field(default_factory=threading.Event)
    connections: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def info_url(self, key: str) -> str:
        return f"s3://{BUCKET}/{key}"

    def refusal(self) -> Refusal | None:
        with self.lock:
            return self.refusals.popleft() if self.refusals else self.refuse_always

    def cut(self) -> int | None:
        with self.lock:
            return self.cuts.popleft() if self.cuts else None


@contextmanager
def running() -> Iterator[S3]:
    """The server, on a port of its own."""
    s3 = S3()

    class Bound(_Handler):
        state = s3

    with _Server(("127.0.0.1", 0), Bound) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        s3.url = f"http://127.0.0.1:{server.server_port}"
        try:
            yield s3
        finally:
            s3.go_on.set()
            server.shutdown()
            thread.join()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    state: S3

    def log_message(self, format: str, *args: Any) -> None:
        """Silent."""

    def setup(self) -> None:
        with self.state.lock:
            self.state.connections += 1
        super().setup()

    def do_HEAD(self) -> None:
        if not self._refused():
            data = self.state.objects[self._key()]
            self._head(200, len(data))

    def do_GET(self) -> None:
        asked = self.headers.get("Range")
        with self.state.lock:
            self.state.ranges.append(asked)
        try:
            self.state.before_get(asked)
            if not self._refused():
                self._give(asked)
        except OSError:  # the client has left
            self.close_connection = True

    def _key(self) -> str:
        return self.path.partition("?")[0].removeprefix(f"/{BUCKET}/")

    def _refused(self) -> bool:
        refusal = self.state.refusal()
        if refusal is None and self._key() not in self.state.objects:
            refusal = Refusal(404, "NoSuchKey")
        if_match = self.headers.get("If-Match", self.state.etag)
        if refusal is None and if_match != self.state.etag and not self.state.ignores_if_match:
            refusal = Refusal(412, "PreconditionFailed")
        if refusal is None:
            return False
        body = b"" if self.command == "HEAD" else refusal.body()
        self._head(refusal.status, len(body))
        self.wfile.write(body)
        return True

    def _head(self, status: int, size: int) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(size))
        self.send_header("ETag", self.state.etag)
        self.end_headers()

    def _give(self, asked: str | None) -> None:
        data = self.state.objects[self._key()]
        found = re.fullmatch(r"bytes=(\d+)-(\d+)", asked or "")
        start, end = (int(found[1]), int(found[2]) + 1) if found else (0, len(data))
        if self.state.ignores_ranges:
            start, end = 0, len(data)
        self._head(206 if found else 200, end - start)
        cut = self.state.cut()
        if cut is not None:
            self.wfile.write(data[start : start + cut])
            self.close_connection = True
            return
        stall = self.state.stall_after
        if stall is not None and start <= stall < end:
            self.wfile.write(data[start:stall])
            self.state.stalled.set()
            self.state.go_on.wait()
            start = stall
        self.wfile.write(data[start:end])
