"""An S3 that only hands out files, in ranges and without Python in the way of their bytes.

``python -m benchmarks.range_server PORT DIR``: GET and HEAD of /BUCKET/KEY, files of DIR.
"""

from __future__ import annotations

import re
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

RANGE = re.compile(r"bytes=(\d+)-(\d+)")


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    directory: Path

    def do_HEAD(self) -> None:
        self._send_head(self._path().stat().st_size)

    def do_GET(self) -> None:
        size = self._path().stat().st_size
        wanted = RANGE.fullmatch(self.headers.get("Range", ""))
        start, end = (int(wanted[1]), 1 + int(wanted[2])) if wanted else (0, size)
        self._send_head(end - start, "" if wanted is None else f"bytes {start}-{end - 1}/{size}")
        with self._path().open("rb") as file:
            self.connection.sendfile(file, start, end - start)

    def log_message(self, *_: object) -> None:
        """Nobody reads it."""

    def _path(self) -> Path:
        return self.directory / self.path.lstrip("/")

    def _send_head(self, length: int, content_range: str = "") -> None:
        self.send_response(206 if content_range else 200)
        self.send_header("Content-Length", str(length))
        self.send_header("ETag", '"1"')
        if content_range:
            self.send_header("Content-Range", content_range)
        self.end_headers()


if __name__ == "__main__":
    _Handler.directory = Path(sys.argv[2])
    ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), _Handler).serve_forever()
