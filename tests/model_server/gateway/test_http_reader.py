"""What makes a request, on a real server: framing, limits, upgrades; else it is refused."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from model_server.gateway.http_messages import HttpRequest
from model_server.gateway.http_reader import MAX_HEAD_BYTES, MAX_HEADERS, RequestReader

from ...contract.raw import chunk, post, request
from ..http_server import CLEAN, MAX_BODY_BYTES, UPGRADE, HttpServer, feed, split

MIB = 1024 * 1024
HIDDEN = b"GET /hidden HTTP/1.1\r\nHost: x\r\n\r\n"

# --- one request is never two -------------------------------------------------------------------

CHUNKED_HIDDEN = b"0\r\n\r\n" + HIDDEN
AMBIGUOUS = {
    "length and chunked": ["Content-Length: 5", "Transfer-Encoding: chunked"],
    "chunked and length": ["Transfer-Encoding: chunked", "Content-Length: 5"],
    "two lengths": ["Content-Length: 5", f"Content-Length: {len(CHUNKED_HIDDEN)}"],
    "two lengths in one": ["Content-Length: 5, 5"],
    "length with a plus": ["Content-Length: +5"],
    "length with a minus": ["Content-Length: -5"],
    "length with a space inside": ["Content-Length: 5 5"],
    "length in hexadecimal": ["Content-Length: 0x5"],
    "length with a letter": ["Content-Length: 5a"],
    "empty length": ["Content-Length: "],
    "length that overflows": ["Content-Length: 18446744073709551621"],
    "a word around chunked": ["Transfer-Encoding: xchunked"],
    "identity": ["Transfer-Encoding: identity"],
    "chunked, then identity": ["Transfer-Encoding: chunked, identity"],
    "chunked twice": ["Transfer-Encoding: chunked, chunked"],
    "chunked in two headers": ["Transfer-Encoding: chunked", "Transfer-Encoding: identity"],
    "chunked in quotes": ['Transfer-Encoding: "chunked"'],
    "a vertical tab before chunked": ["Transfer-Encoding: \x0bchunked"],
    "space before the colon": ["Transfer-Encoding : chunked"],
    "tab before the colon": ["Transfer-Encoding\t: chunked"],
    "folded header": ["X: y", " Transfer-Encoding: chunked"],
    "folded value": ["Transfer-Encoding:", " chunked"],
    "zero byte in a value": ["X: a\0b"],
    "zero byte in a name": ["X\0Y: a"],
    "carriage return in a value": ["X: a\rTransfer-Encoding: chunked"],
    "space in a name": ["X Y: a"],
    "no name": [": a"],
}


@pytest.mark.parametrize("headers", AMBIGUOUS.values(), ids=AMBIGUOUS.keys())
@pytest.mark.parametrize("pieces", ["at once", "in pieces"])
def test_a_head_that_can_be_read_in_two_ways_is_400_and_nothing_else(
    http: HttpServer, headers: list[str], pieces: str
) -> None:
    message = request("POST", "/outer", *headers, body=CHUNKED_HIDDEN)
    sent = [message] if pieces == "at once" else split(message, [20, 50, 80, 110])
    answers = http.converse(*sent)
    assert [status for status, _ in answers] == [400]
    assert http.received == []


CHUNKS = {
    "size that overflows": b"10000000000000005\r\nhello\r\n0\r\n\r\n",
    "size in 0x": b"0x5\r\nhello\r\n0\r\n\r\n",
    "size with a plus": b"+5\r\nhello\r\n0\r\n\r\n",
    "size with a minus": b"-5\r\nhello\r\n0\r\n\r\n",
    "size behind a space": b" 5\r\nhello\r\n0\r\n\r\n",
    "no size": b"\r\nhello\r\n0\r\n\r\n",
    "bare line feed": b"5\nhello\r\n0\r\n\r\n",
    "data longer than the size": b"4\r\nhello\r\n0\r\n\r\n",
    "no line end behind the data": b"5\r\nhello0\r\n\r\n",
    "bare line feed behind the data": b"5\r\nhello\n0\r\n\r\n",
    "zero byte in the extension": b"5;a\0b\r\nhello\r\n0\r\n\r\n",
    "line feed in the extension": b"5;a\nb\r\nhello\r\n0\r\n\r\n",
}


@pytest.mark.parametrize("chunks", CHUNKS.values(), ids=CHUNKS.keys())
def test_chunks_that_can_be_read_in_two_ways_are_400_and_nothing_else(
    http: HttpServer, chunks: bytes
) -> None:
    head = request("POST", "/outer", "Transfer-Encoding: chunked")
    answers = http.converse(head + chunks + HIDDEN)
    assert [status for status, _ in answers] == [400]
    assert http.received == []


def test_chunked_in_http_1_0_is_never_two_requests(http: HttpServer) -> None:
    head = b"POST /outer HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n"
    http.converse(head + CHUNKED_HIDDEN)
    assert "/hidden" not in [each.path for each in http.received]


@pytest.mark.parametrize("length", ["5", "  5", "5  ", "05"])
def test_lengths_that_are_odd_but_right_are_read_as_they_are(http: HttpServer, length: str) -> None:
    answers = http.converse(request("POST", "/", f"Content-Length: {length}", body=b"hello"))
    assert answers in ([(200, b"hello")], [(400, answers[0][1])])


def test_the_same_length_twice_is_never_two_requests(http: HttpServer) -> None:
    headers = [f"Content-Length: {len(HIDDEN)}"] * 2
    http.converse(request("POST", "/outer", *headers, body=HIDDEN))
    assert [each.path for each in http.received] in ([], ["/outer"])


def test_heads_with_bare_line_feeds_are_never_two_requests(http: HttpServer) -> None:
    http.converse(b"GET /outer HTTP/1.1\nHost: x\nContent-Length: 38\n\n" + HIDDEN)
    assert "/hidden" not in [each.path for each in http.received]


def test_a_trailer_cannot_change_the_framing(http: HttpServer) -> None:
    head = request("POST", "/outer", "Transfer-Encoding: chunked")
    trailer = b"0\r\nContent-Length: 500\r\nTransfer-Encoding: chunked\r\n\r\n"
    http.converse(head + chunk(b"hello") + trailer + CLEAN)
    paths = [each.path for each in http.received]
    assert paths in ([], ["/outer", "/clean"])


def test_what_follows_an_http_1_0_request_that_closes_is_not_served(http: HttpServer) -> None:
    answers = http.converse(b"GET /outer HTTP/1.0\r\n\r\n" + HIDDEN)
    assert answers[0][0] == 200
    assert [each.path for each in http.received] == ["/outer"]


def test_what_follows_connection_close_is_not_served(http: HttpServer) -> None:
    answers = http.converse(request("GET", "/outer", "Connection: close") + HIDDEN)
    assert answers[0][0] == 200
    assert [each.path for each in http.received] == ["/outer"]


# --- upgrades, which nobody gets ----------------------------------------------------------------

UPGRADED = {
    "length": request("POST", "/up", *UPGRADE, "Content-Length: 5", body=b"hello"),
    "empty": request("POST", "/up", *UPGRADE, "Content-Length: 0"),
    "chunked": request("POST", "/up", *UPGRADE, "Transfer-Encoding: chunked")
    + chunk(b"hello")
    + chunk(b""),
}


def test_an_upgrade_request_without_a_body_is_a_plain_one(http: HttpServer) -> None:
    with http.connect() as connection:
        for _ in range(2):
            connection.send(request("GET", "/up", *UPGRADE))
            assert connection.receive().status == 200
            connection.send(CLEAN)
            assert connection.receive().status == 200


@pytest.mark.parametrize("wire", UPGRADED.values(), ids=UPGRADED.keys())
@pytest.mark.parametrize("places", [[], [-1], [60, -10]])
def test_an_upgrade_request_with_a_body_is_a_plain_one_or_refused(
    http: HttpServer, wire: bytes, places: list[int]
) -> None:
    body = b"" if b"Content-Length: 0" in wire else b"hello"
    statuses = [status for status, _ in http.converse(*split(wire, places), CLEAN)]
    assert [(each.path, bytes(each.body)) for each in http.received] in (
        [],
        [("/up", body), ("/clean", b"")],
    )
    assert statuses in ([400], [501], [200, 200])


def test_a_request_behind_an_upgrade_request_is_served(http: HttpServer) -> None:
    http.converse(request("GET", "/up", *UPGRADE) + CLEAN)
    assert [each.path for each in http.received] == ["/up", "/clean"]


def test_the_chunks_of_an_upgrade_request_are_never_requests(http: HttpServer) -> None:
    head = request("POST", "/up", *UPGRADE, "Transfer-Encoding: chunked")
    http.converse(head, HIDDEN)
    assert "/hidden" not in [each.path for each in http.received]


def test_connect_with_a_body_is_never_two_requests_and_is_answered(http: HttpServer) -> None:
    head = b"CONNECT a:80 HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n"
    assert http.converse(head + b"hello")


# --- limits -------------------------------------------------------------------------------------


def test_a_head_just_within_the_limit_passes(http: HttpServer) -> None:
    value = "x" * (MAX_HEAD_BYTES - 200)
    assert http.converse(request("GET", "/", f"X-Long: {value}"))[0][0] == 200


@pytest.mark.parametrize(
    "wire",
    [
        request("GET", "/", f"X-Long: {'x' * MAX_HEAD_BYTES}"),
        request("GET", "/" + "x" * MAX_HEAD_BYTES, "X: y"),
        b"GET / HTTP/1.1\r\nX-Endless: " + b"x" * (3 * MAX_HEAD_BYTES),
        b"GET /" + b"x" * (3 * MAX_HEAD_BYTES),
        request("GET", "/", *["X: y"] * (MAX_HEADERS + 1)),
    ],
    ids=["long value", "long target", "endless value", "endless target", "many headers"],
)
def test_a_head_over_the_limits_is_431(http: HttpServer, wire: bytes) -> None:
    assert [status for status, _ in http.converse(wire)] == [431]
    assert http.received == []


def test_as_many_headers_as_allowed_pass(http: HttpServer) -> None:
    lines = ["X: y"] * (MAX_HEADERS - 1)  # and Host
    assert http.converse(request("GET", "/", *lines))[0][0] == 200


def test_trailers_are_not_headers(http: HttpServer) -> None:
    head = request("POST", "/", "Transfer-Encoding: chunked")
    http.converse(head + b"0\r\nX-Amzn-SageMaker-Inference-Id: forged\r\n\r\n")
    assert [each.header("x-amzn-sagemaker-inference-id") for each in http.received] == [""]


@pytest.mark.parametrize("size", [MAX_BODY_BYTES, MAX_BODY_BYTES + 1])
@pytest.mark.parametrize("framed", ["length", "chunked", "one chunk"])
def test_a_body_may_have_as_many_bytes_as_the_limit_and_not_one_more(
    http: HttpServer, size: int, framed: str
) -> None:
    body = b"x" * size
    if framed == "length":
        wire = post("/", body)
    else:
        step = 10_000 if framed == "chunked" else size
        pieces = [body[at : at + step] for at in range(0, size, step)]
        wire = request("POST", "/", "Transfer-Encoding: chunked")
        wire += b"".join(map(chunk, pieces)) + chunk(b"")
    statuses = [status for status, _ in http.converse(wire)]
    assert statuses == ([200] if size <= MAX_BODY_BYTES else [413])


def resident_bytes() -> int:
    """What this process holds in memory now."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def test_a_body_that_is_only_promised_takes_no_memory_before_it_comes() -> None:
    size = 25 * MIB
    taken: list[HttpRequest] = []
    reader = RequestReader(size, take=taken.append, proceed=lambda: None)
    before = resident_bytes()
    feed(reader, request("POST", "/", f"Content-Length: {size}", body=b"begun"))
    assert len(reader.buffer()) == size - len(b"begun")
    assert resident_bytes() - before < 2 * MIB
    half = b"x" * (size // 2)
    before = resident_bytes()
    feed(reader, half)
    assert resident_bytes() - before < len(half) + 2 * MIB
    rest = b"y" * (size - len(half) - len(b"begun"))
    assert taken == []
    feed(reader, rest)
    assert [bytes(each.body) == b"begun" + half + rest for each in taken] == [True]
