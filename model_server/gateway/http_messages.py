"""An HTTP request and a response, as the gateway sees them."""

from __future__ import annotations

import mmap
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from http import HTTPStatus

# Answers that end with their head, whatever the model returned (RFC 9110, section 6.4.1).
BODILESS = frozenset({204, 205, 304})

# A request's body; a mapping when it is large.
Body = bytes | bytearray | mmap.mmap

# Of a body that is sent as it comes.
Part = bytes | bytearray | memoryview

JSON = "application/json"

_REASONS = {status.value: status.phrase for status in HTTPStatus}


class StreamBroken(Exception):
    """Raised by the stream of a response that cannot go on; the text says why."""


@dataclass(slots=True)
class HttpRequest:
    """A whole request: method, path and query as sent (not decoded), headers, body."""

    method: str
    path: str
    query: str
    headers: list[tuple[str, str]]
    body: Body = b""
    keep_alive: bool = True
    http_1_0: bool = False

    def header(self, name: str) -> str:
        """The first header of that (lower-case) name, or ""."""
        for key, value in self.headers:
            if len(key) == len(name) and key.lower() == name:
                return value
        return ""


@dataclass(slots=True)
class HttpResponse:
    """A response. With ``stream`` the body comes from there.

    It has ``length`` bytes in all; None is not known before, and the body goes in chunks.
    """

    status: int
    content_type: str = JSON
    body: bytes | bytearray | memoryview = b""
    headers: list[tuple[str, str]] = field(default_factory=list)
    stream: AsyncGenerator[Part, None] | None = None
    length: int | None = None
    # An open end is marked by an empty chunk, for clients that know chunks, else by a close.
    chunked: bool = True
    # What the access log and the metrics call it.
    route: str = ""
    request_id: str = ""

    @property
    def is_open_ended(self) -> bool:
        """Whether nobody knows its length before its end."""
        return self.stream is not None and self.length is None

    def head(self, *, keep_alive: bool, date: str) -> bytes:
        """Status line and headers, encoded."""
        length = len(self.body) if self.length is None else self.length
        framing = f"Content-Length: {length}\r\n"
        if self.is_open_ended:
            framing = "Transfer-Encoding: chunked\r\n" if self.chunked else ""
        lines = [
            f"HTTP/1.1 {self.status} {_REASONS.get(self.status, 'Status')}\r\nDate: {date}\r\n"
        ]
        if self.status not in BODILESS:
            lines.append(f"Content-Type: {self.content_type}\r\n{framing}")
        elif self.status == HTTPStatus.RESET_CONTENT:
            lines.append("Content-Length: 0\r\n")
        lines += [f"{name}: {value}\r\n" for name, value in self.headers]
        lines.append("\r\n" if keep_alive else "Connection: close\r\n\r\n")
        return "".join(lines).encode("latin-1", "replace")
