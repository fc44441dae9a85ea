"""From bytes to HTTP requests: parsing, limits, bodies. No socket and no clock in here.

Heads are parsed by httptools (llhttp, the parser of Node.js). A body of known length goes past the
parser, straight into one buffer of that length. What is refused: heads and bodies over the limits,
and framing that two parties could read differently (by the parser).
"""

from __future__ import annotations

import mmap
from collections.abc import Callable

import httptools

from model_server.errors import BadRequest, HeadTooLarge, PayloadTooLarge, ServerError
from model_server.gateway.http_messages import HttpRequest

MAX_HEAD_BYTES = 64 * 1024
MAX_HEADERS = 100

# Larger bodies get memory that the kernel gives page by page as they come: a client that only
# promises 25 MiB takes none.
_LAZY_BODY_BYTES = 4 * 1024 * 1024

# Shared by all connections: what is read is taken out before the next read.
_scratch_view = memoryview(bytearray(64 * 1024))


class RequestReader:
    """Reads one connection's requests, in order, and hands each to ``take`` when it is whole.

    ``proceed`` is called when a client waits for "100 Continue" before it sends its body.
    """

    def __init__(
        self,
        max_body_bytes: int,
        *,
        take: Callable[[HttpRequest], None],
        proceed: Callable[[], None],
    ) -> None:
        self._max_body_bytes = max_body_bytes
        self._take = take
        self._proceed = proceed
        self._begin()

    def _begin(self) -> None:
        """Expect a new message, with a parser that knows of nothing before it."""
        self._parser = httptools.HttpRequestParser(self)
        self._reset()

    def _reset(self) -> None:
        self.in_message = False
        self._url = b""
        self._headers: list[tuple[str, str]] = []
        self._head_bytes = self._unended_bytes = 0
        # From the end of the head to the end of the body:
        self._request: HttpRequest | None = None
        self._length: int | None = None
        self._expects_continue = False
        self._body: bytearray | mmap.mmap = bytearray()
        self._filled = 0
        self._direct: memoryview | None = None

    def buffer(self) -> memoryview:
        """Where the next bytes of the connection are to go."""
        return _scratch_view if self._direct is None else self._direct[self._filled :]

    def received(self, count: int) -> None:
        """``count`` bytes are in ``buffer``. Raises ServerError when nothing can be read on."""
        if self._direct is None:
            self._feed(_scratch_view[:count])
            return
        self._filled += count
        if self._filled == self._length:
            self._finish()
            self._begin()

    def _feed(self, data: memoryview) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            # The parser leaves the body to another protocol. We switch to none: read the request
            # again as one that does not ask for it.
            again = self._head_without_upgrade() + bytes(data[upgrade.args[0] :])
            self._begin()
            self._feed(memoryview(again))
        except httptools.HttpParserCallbackError as error:
            cause = error.__context__
            raise (cause if isinstance(cause, ServerError) else BadRequest(f"{cause}")) from None
        except httptools.HttpParserError as error:
            raise BadRequest(f"this is not valid HTTP/1.1: {error}") from None
        else:
            self._after_feed(len(data))

    def _after_feed(self, count: int) -> None:
        if self._request is not None and self._length is not None:
            self._receive_directly(self._length)
        elif self._request is None and self.in_message:  # a head that has not ended yet
            self._unended_bytes += count
            if self._unended_bytes > 2 * MAX_HEAD_BYTES:
                raise _head_too_large()

    def _receive_directly(self, length: int) -> None:
        """The head is there and the body's length known: past the parser with the rest."""
        begun = self._body
        body: bytearray | mmap.mmap
        body = bytearray(length) if length < _LAZY_BODY_BYTES else mmap.mmap(-1, length)
        body[: len(begun)] = begun
        self._body, self._filled = body, len(begun)
        self._direct = memoryview(body)
        self._continue_if_expected()

    def _finish(self) -> None:
        request, self._request = self._request, None
        assert request is not None
        request.body = self._body
        self.in_message = False
        self._take(request)

    def _continue_if_expected(self) -> None:
        if self._expects_continue:
            self._expects_continue = False
            self._proceed()

    def _head_without_upgrade(self) -> bytes:
        assert self._request is not None
        lines = [f"{self._request.method} {self._url.decode('latin-1')} HTTP/1.1"]
        lines += [f"{key}: {value}" for key, value in self._headers if key.lower() != "upgrade"]
        return "\r\n".join([*lines, "", ""]).encode("latin-1")

    # --- called by the parser -------------------------------------------------------------------

    def on_message_begin(self) -> None:
        """A first byte."""
        self._reset()
        self.in_message = True

    def on_url(self, url: bytes) -> None:
        """A part of the target."""
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header, or a trailer."""
        if self._request is not None:
            return  # trailers behind a chunked body are dropped
        self._head_bytes += len(name) + len(value) + len(": \r\n")
        if len(self._headers) == MAX_HEADERS or self._head_bytes + len(self._url) > MAX_HEAD_BYTES:
            raise _head_too_large()
        self._headers.append((name.decode("latin-1"), value.decode("latin-1")))

    def on_headers_complete(self) -> None:
        """The end of the head."""
        if self._parser.get_method() == b"CONNECT":
            raise BadRequest("CONNECT is not possible here: this is no proxy")
        if self._parser.get_http_version() not in ("1.0", "1.1"):
            raise BadRequest("only HTTP/1.1 and HTTP/1.0 are spoken here")
        chunked = self._read_framing()
        path, _, query = self._url.decode("latin-1").partition("?")
        self._request = HttpRequest(
            self._parser.get_method().decode("latin-1"),
            path,
            query,
            self._headers,
            keep_alive=self._parser.should_keep_alive(),
            http_1_0=self._parser.get_http_version() == "1.0",
        )
        if chunked:
            self._continue_if_expected()

    def _read_framing(self) -> bool:
        """Take what the headers say of the body; is it chunked?"""
        chunked = False
        for name, value in self._headers:
            lowered = name.lower()
            if lowered == "content-length":
                self._length = int(value)
            elif lowered == "transfer-encoding":
                chunked = True
            elif lowered == "expect":
                self._expects_continue = value.lower() == "100-continue"
        if chunked:
            self._length = None
        elif self._length is not None and self._length > self._max_body_bytes:
            raise self._too_large()
        return chunked

    def on_body(self, body: bytes) -> None:
        """A part of the body."""
        if len(self._body) + len(body) > self._max_body_bytes:
            raise self._too_large()
        self._body += body  # type: ignore[operator]  # a bytearray until its length is known

    def on_message_complete(self) -> None:
        """The end of the body; of an upgrade, before its body."""
        if not self._parser.should_upgrade():
            self._finish()

    def _too_large(self) -> PayloadTooLarge:
        return PayloadTooLarge(
            f"the request body is larger than {self._max_body_bytes} bytes; "
            "MODELYARD_MAX_BODY_BYTES sets the limit"
        )


def _head_too_large() -> HeadTooLarge:
    return HeadTooLarge(
        f"the request line and headers are limited to {MAX_HEAD_BYTES} bytes "
        f"and {MAX_HEADERS} headers"
    )
