"""Requests to a server, timed."""

from __future__ import annotations

import http.client
import json
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

# By the ending of a request's file.
CONTENT_TYPES = {
    ".json": "application/json",
    ".jsonl": "application/jsonlines",
    ".csv": "text/csv",
    ".npy": "application/x-npy",
    ".txt": "text/plain",
}
_ANY = "application/octet-stream"


@dataclass(frozen=True, slots=True)
class Request:
    """A body to send, the file it is from, and the headers that go with it."""

    file: str
    body: bytes
    headers: tuple[tuple[str, str], ...]

    @property
    def content_type(self) -> str:
        """What the body is said to be."""
        return dict(self.headers)["Content-Type"]


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back, and how long that took from the first byte sent to the last received."""

    status: int
    content_type: str
    body: bytes
    seconds: float

    @property
    def error(self) -> str:
        """A failure in words: status and message."""
        try:
            problem = json.loads(self.body)
            return f"{problem['code']} {problem['type']}: {problem['message']}"
        except (ValueError, LookupError, TypeError):
            return f"{self.status}: {self.body[:500].decode('utf-8', 'replace')}"


def find_request(
    file: Path | None,
    directory: Path,
    content_type: str | None,
    headers: Iterable[tuple[str, str]],
) -> Request | None:
    """The request in ``file``, else in the ``request.json`` or ``.csv`` … of a model; or None."""
    if file is None:
        beside = [directory / f"request{ending}" for ending in CONTENT_TYPES]
        file = next((path for path in beside if path.is_file()), None)
    if file is None:
        return None
    kind = content_type or CONTENT_TYPES.get(file.suffix.lower(), _ANY)
    given = [(name.strip(), value.strip()) for name, value in headers]
    shown = file.name if file.parent == directory else str(file)
    return Request(shown, file.read_bytes(), (("Content-Type", kind), *given))


class Client:
    """Talks to a server, one connection for each request. Raises OSError or HTTPException."""

    def __init__(self, port: int, *, timeout_seconds: float, host: str = "127.0.0.1") -> None:
        self._port = port
        self._host = host
        self._timeout_seconds = timeout_seconds

    def ping(self) -> None:
        """``GET /ping``: returns when the server answers."""
        self._send("GET", "/ping")

    def load(self, name: str, url: str) -> Answer:
        """``POST /models``."""
        body = json.dumps({"model_name": name, "url": url}).encode()
        return self._send("POST", "/models", body, (("Content-Type", "application/json"),))

    def describe(self, name: str) -> dict[str, Any]:
        """``GET /models/{name}``."""
        found: dict[str, Any] = json.loads(self._send("GET", _path(name)).body)
        return found

    def invoke(self, name: str, request: Request) -> Answer:
        """``POST /models/{name}/invoke``."""
        return self._send("POST", f"{_path(name)}/invoke", request.body, request.headers)

    def memory(self) -> Answer:
        """``GET /memory``."""
        return self._send("GET", "/memory")

    def decisions(self, name: str | None, limit: int) -> Answer:
        """``GET /memory/decisions``, about one model or all."""
        about = "" if name is None else f"&model={quote(name, safe='')}"
        return self._send("GET", f"/memory/decisions?limit={limit}{about}")

    def _send(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        headers: tuple[tuple[str, str], ...] = (),
    ) -> Answer:
        connection = http.client.HTTPConnection(
            self._host, self._port, timeout=self._timeout_seconds
        )
        try:
            begun = time.monotonic()
            connection.request(method, path, body, dict(headers))
            response = connection.getresponse()
            content = response.read()
            seconds = time.monotonic() - begun
            return Answer(response.status, response.headers["Content-Type"], content, seconds)
        finally:
            connection.close()


def _path(name: str) -> str:
    return f"/models/{quote(name, safe='')}"
