"""HTTP/1.1 on a bare socket: for requests that a well-behaved client would never send."""

from __future__ import annotations

import contextlib
import socket
from dataclasses import dataclass
from types import TracebackType
from typing import Self


@dataclass(frozen=True)
class RawResponse:
    """One response as it came; header names in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes


class RawConnection:
    """One connection. ``receive`` reads exactly one response, interim ones (100) included."""

    def __init__(self, host: str, port: int) -> None:
        self._socket = socket.create_connection((host, port), timeout=40)
        self._reader = self._socket.makefile("rb")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Hang up."""
        self._reader.close()
        self._socket.close()

    def send(self, *parts: bytes) -> None:
        """Send all parts; a server that has hung up already may still have answered before."""
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            for part in parts:
                self._socket.sendall(part)

    def receive(self, *, has_body: bool = True) -> RawResponse:
        """The next response. ConnectionError if the server hangs up instead of answering."""
        status = int(self._line().split()[1])
        headers = {}
        while line := self._line():
            name, _, value = line.partition(b":")
            headers[name.decode("latin-1").lower()] = value.strip().decode("latin-1")
        has_body = has_body and status >= 200 and status != 204
        return RawResponse(status, headers, self._body(headers) if has_body else b"")

    def is_closed_by_server(self) -> bool:
        """Wait until the server hangs up; False if it sends something or keeps the line open."""
        self._socket.settimeout(40)
        try:
            return self._reader.read(1) == b""
        except ConnectionResetError:
            return True
        except TimeoutError:
            return False

    def _line(self) -> bytes:
        line = self._reader.readline()
        if not line:
            raise ConnectionError("the server closed the connection without an answer")
        return line.rstrip(b"\r\n")

    def _body(self, headers: dict[str, str]) -> bytes:
        if headers.get("transfer-encoding", "").lower() == "chunked":
            return b"".join(iter(self._chunk, b""))
        if "content-length" in headers:
            return self._reader.read(int(headers["content-length"]))
        return self._reader.read()

    def _chunk(self) -> bytes:
        data = self._reader.read(int(self._line().partition(b";")[0], 16))
        self._line()
        return data


def request(method: str, target: str, *headers: str, body: bytes = b"") -> bytes:
    """The bytes of a request with these headers and nothing added but Host."""
    lines = [f"{method} {target} HTTP/1.1", "Host: localhost", *headers, "", ""]
    return "\r\n".join(lines).encode() + body


def post(target: str, body: bytes) -> bytes:
    """The bytes of a complete POST."""
    return request("POST", target, f"Content-Length: {len(body)}", body=body)


def chunk(data: bytes) -> bytes:
    """``data`` as one chunk of a chunked body; the empty chunk ends it."""
    return f"{len(data):x}\r\n".encode() + data + b"\r\n"
