"""Ours: what a careless or hostile client gets, and that nobody else notices."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from .endpoint import Endpoint, path_of
from .raw import RawConnection, RawResponse, chunk, post, request
from .server import PROBE_SECONDS

Connect = Callable[[], RawConnection]
MIB = 1024 * 1024
LIMIT = 25 * MIB

BROKEN_HEADS = {
    "not HTTP": b"hello there\r\n\r\n",
    "no version": b"GET /ping\r\n\r\n",
    "wrong version": b"GET /ping HTTP/9.9\r\n\r\n",
    "binary": bytes(range(128, 256)) + b"\r\n\r\n",
    "TLS hello": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 32 + b"\r\n\r\n",
    "space before the colon": b"GET /ping HTTP/1.1\r\nHost : x\r\n\r\n",
    "header without a colon": b"GET /ping HTTP/1.1\r\nHost: x\r\nnonsense\r\n\r\n",
    "zero byte in a header": b"GET /ping HTTP/1.1\r\nHost: x\r\nA: b\x00c\r\n\r\n",
}
BROKEN_FRAMES = {
    "length and chunks": ["Content-Length: 5", "Transfer-Encoding: chunked"],
    "chunks and length": ["Transfer-Encoding: chunked", "Content-Length: 5"],
    "two lengths": ["Content-Length: 5", "Content-Length: 6"],
    "negative length": ["Content-Length: -5"],
    "length in words": ["Content-Length: five"],
    "length with a plus": ["Content-Length: +5"],
    "chunked twice": ["Transfer-Encoding: chunked", "Transfer-Encoding: chunked"],
    "unknown coding": ["Transfer-Encoding: rot13"],
    "hidden chunked": ["Transfer-Encoding: chunked, identity"],
}
BROKEN_CHUNKS = {
    "no number": b"zz\r\nhello\r\n0\r\n\r\n",
    "negative": b"-5\r\nhello\r\n0\r\n\r\n",
    "too short": b"3\r\nhello\r\n0\r\n\r\n",
    "huge number": b"f" * 20 + b"\r\nhello\r\n",
}


@pytest.fixture
def target(endpoint: Endpoint) -> str:
    """Where an echo model answers."""
    return path_of(endpoint.loaded("echo")) + "/invoke"


def still_serves(connect: Connect, target: str) -> bool:
    """Whether a well-behaved client is served as ever."""
    connection = connect()
    connection.send(post(target, b"well"))
    return connection.receive().body == b"well"


def answer_to(connect: Connect, *parts: bytes) -> RawResponse:
    connection = connect()
    connection.send(*parts)
    return connection.receive()


def test_a_body_of_exactly_the_limit_passes(connect: Connect, target: str) -> None:
    body = b"x" * LIMIT
    assert answer_to(connect, post(target, body)).body == body


def test_a_length_over_the_limit_is_413_before_any_body(connect: Connect, target: str) -> None:
    head = request("POST", target, f"Content-Length: {LIMIT + 1}")
    assert answer_to(connect, head).status == 413


def test_a_length_over_the_limit_is_413_instead_of_100(connect: Connect, target: str) -> None:
    head = request("POST", target, f"Content-Length: {LIMIT + 1}", "Expect: 100-continue")
    assert answer_to(connect, head).status == 413


def test_a_client_that_sends_all_of_a_body_over_the_limit_reads_413(
    connect: Connect, target: str
) -> None:
    assert answer_to(connect, post(target, b"x" * (LIMIT + MIB))).status == 413
    assert still_serves(connect, target)


def test_chunks_over_the_limit_are_413(connect: Connect, target: str) -> None:
    head = request("POST", target, "Transfer-Encoding: chunked")
    assert answer_to(connect, head, *[chunk(b"x" * MIB)] * 26, chunk(b"")).status == 413
    assert still_serves(connect, target)


def test_a_response_over_the_limit_is_an_error(endpoint: Endpoint) -> None:
    name = endpoint.loaded("returns_100mb")
    assert endpoint.invoke(name).status_code in (200, 500)
    assert endpoint.ping().status_code == 200


@pytest.mark.parametrize("head", BROKEN_HEADS.values(), ids=BROKEN_HEADS.keys())
def test_a_head_that_is_not_http_is_400(connect: Connect, head: bytes) -> None:
    connection = connect()
    connection.send(head)
    assert connection.receive().status == 400
    assert connection.is_closed_by_server()


@pytest.mark.parametrize("headers", BROKEN_FRAMES.values(), ids=BROKEN_FRAMES.keys())
def test_a_body_of_unclear_length_is_400(connect: Connect, target: str, headers: list[str]) -> None:
    connection = connect()
    connection.send(request("POST", target, *headers, body=b"0\r\n\r\nGET /ping HTTP/1.1\r\n\r\n"))
    assert connection.receive().status in (400, 501)
    assert connection.is_closed_by_server()


@pytest.mark.parametrize("chunks", BROKEN_CHUNKS.values(), ids=BROKEN_CHUNKS.keys())
def test_broken_chunks_are_400(connect: Connect, target: str, chunks: bytes) -> None:
    connection = connect()
    connection.send(request("POST", target, "Transfer-Encoding: chunked"), chunks)
    assert connection.receive().status == 400
    assert connection.is_closed_by_server()
    assert still_serves(connect, target)


def test_more_than_100_headers_are_431(connect: Connect) -> None:
    headers = [f"X-Header-{number}: x" for number in range(200)]
    assert answer_to(connect, request("GET", "/ping", *headers)).status == 431


def test_headers_over_64_kib_are_431(connect: Connect) -> None:
    headers = [f"X-Header-{number}: {'x' * 8000}" for number in range(9)]
    assert answer_to(connect, request("GET", "/ping", *headers)).status == 431


def test_headers_that_never_end_are_431(connect: Connect) -> None:
    head = b"GET /ping HTTP/1.1\r\nHost: x\r\nX-Endless: "
    assert answer_to(connect, head, b"x" * MIB).status == 431


def test_a_target_that_never_ends_is_refused(connect: Connect) -> None:
    assert answer_to(connect, b"GET /" + b"x" * MIB).status in (400, 414, 431)


def test_a_name_that_is_not_utf_8_is_refused(endpoint: Endpoint) -> None:
    assert endpoint.send("GET", "/models/%FF%FE").status_code in (400, 404)


def test_a_client_that_leaves_halfway_through_its_body_harms_nobody(
    connect: Connect, target: str
) -> None:
    for _ in range(20):
        leaving = connect()
        leaving.send(request("POST", target, "Content-Length: 1000", body=b"only this"))
        leaving.close()
    assert still_serves(connect, target)


def test_a_client_that_leaves_before_its_answer_harms_nobody(
    connect: Connect, target: str, endpoint: Endpoint
) -> None:
    slow = path_of(endpoint.loaded("sleeps")) + "/invoke"
    for _ in range(5):
        leaving = connect()
        leaving.send(post(slow, b"0.2"))
        leaving.close()
    assert answer_to(connect, post(slow, b"0")).body == b"slept 0"
    assert still_serves(connect, target)


def test_a_client_that_does_not_read_its_answer_harms_nobody(connect: Connect, target: str) -> None:
    for _ in range(5):
        connect().send(post(target, b"x" * (8 * MIB)))
    assert still_serves(connect, target)


def test_slow_clients_do_not_hold_up_the_others(
    connect: Connect, target: str, endpoint: Endpoint
) -> None:
    slow = [connect() for _ in range(50)]
    for number, connection in enumerate(slow):
        connection.send(post(target, b"x" * 1000)[: 20 + number * 10])
    assert still_serves(connect, target)
    assert endpoint.ping().elapsed.total_seconds() < PROBE_SECONDS


def test_idle_connections_do_not_hold_up_the_others(
    connect: Connect, target: str, endpoint: Endpoint
) -> None:
    for _ in range(200):
        connect()
    assert still_serves(connect, target)
    assert endpoint.ping().elapsed.total_seconds() < PROBE_SECONDS
