"""Connections on a real server: answers in order, slow clients, time, the stop."""

from __future__ import annotations

import asyncio
import fcntl
import socket
import termios
import threading
from array import array

import pytest

from model_server.gateway.http_protocol import IDLE_SECONDS, STALLED_SECONDS, HttpProtocol

from ...contract.polling import eventually
from ...contract.raw import RawConnection, chunk, post, request
from ..http_server import BIG, CLEAN, HttpServer

# --- answers in order ---------------------------------------------------------------------------


def test_100_continue_comes_only_once_and_before_the_body(http: HttpServer) -> None:
    for framed, body in (("Content-Length: 5", b"hello"), ("Transfer-Encoding: chunked", b"")):
        with http.connect() as connection:
            connection.send(request("POST", "/", framed, "Expect: 100-continue"))
            assert connection.receive().status == 100
            connection.send(body or chunk(b"hello") + chunk(b""))
            assert connection.receive().body == b"hello"


def test_many_pipelined_requests_wait_their_turn_and_are_all_answered(http: HttpServer) -> None:
    with http.connect() as connection:
        connection.send(request("GET", "/wait"))
        assert eventually(lambda: len(http.received) == 1)
        bodies = [b"%d" % number for number in range(200)]
        connection.send(b"".join(post("/", body) for body in bodies))
        http.settle()
        (protocol,) = http.connections.open
        assert not protocol._transport.is_closing()
        assert len(http.received) == 1
        http.open_gate()
        assert connection.receive().status == 200
        assert [connection.receive().body for _ in bodies] == bodies


def test_a_client_that_pipelines_without_end_is_not_read_any_further(http: HttpServer) -> None:
    with http.connect() as connection:
        connection.send(request("GET", "/wait"))
        assert eventually(lambda: len(http.received) == 1)
        (protocol,) = http.connections.open
        for _ in range(20):
            connection.send(post("/", b"x" * 1000) * 10)
            http.settle()
        assert len(protocol._waiting) < 100
        http.open_gate()
        assert [connection.receive().status for _ in range(201)] == [200] * 201


def test_an_error_behind_pipelined_requests_is_answered_behind_them(http: HttpServer) -> None:
    with http.connect() as connection:
        connection.send(request("GET", "/wait") + CLEAN + b"this is not HTTP\r\n\r\n")
        assert eventually(lambda: len(http.received) == 1)
        http.open_gate()
        assert [connection.receive().status for _ in range(3)] == [200, 200, 400]
        assert connection.is_closed_by_server()


# --- handlers -----------------------------------------------------------------------------------


def test_a_handler_that_fails_costs_its_connection_and_no_other(http: HttpServer) -> None:
    with http.connect() as connection, http.connect() as other:
        connection.send(request("GET", "/raise"))
        assert connection.is_closed_by_server()
        other.send(CLEAN)
        assert other.receive().status == 200


def test_a_stream_is_sent_whole(http: HttpServer) -> None:
    with http.connect() as connection:
        for _ in range(2):
            connection.send(request("GET", "/stream"))
            assert connection.receive().body == BIG


@pytest.mark.parametrize("path", ["/cut-stream", "/faulty-stream"])
def test_a_stream_that_breaks_off_is_a_connection_cut_short(http: HttpServer, path: str) -> None:
    with http.connect() as connection:
        connection.send(request("GET", path))
        assert len(connection.receive().body) < len(BIG)
        assert eventually(lambda: not http.connections.open)


def test_head_has_the_length_and_no_body(http: HttpServer) -> None:
    with http.connect() as connection:
        connection.send(request("HEAD", "/", "Content-Length: 5", body=b"hello") + CLEAN)
        answer = connection.receive(has_body=False)
        assert (answer.status, answer.headers["content-length"]) == (200, "5")
        assert connection.receive().status == 200


def test_a_client_that_leaves_cancels_its_handler(http: HttpServer) -> None:
    with http.connect() as connection:
        connection.send(request("GET", "/wait"))
        assert eventually(lambda: len(http.received) == 1)
    assert eventually(lambda: http.cancelled == 1)
    assert eventually(lambda: not http.connections.open)


def test_a_slow_client_of_answers_given_at_once_gets_them_all(http: HttpServer) -> None:
    with http.connect() as connection:
        count = 1500
        sender = threading.Thread(
            target=connection.send, args=[request("GET", "/at-once") * count], daemon=True
        )
        sender.start()
        assert eventually(lambda: any(not c._can_write.is_set() for c in http.connections.open))
        connection._socket.settimeout(40)
        assert [connection.receive().status for _ in range(count)] == [200] * count
        sender.join(40)


def test_a_stream_to_a_server_that_stops_ends_its_connection() -> None:
    http = HttpServer()
    try:
        with http.connect() as connection:
            connection.send(request("GET", "/stream"))
            assert eventually(lambda: len(http.received) == 1)
            http.call(http.connections.stop)
            answer = connection.receive()
            assert answer.body == BIG
            if answer.headers.get("connection") != "close":
                connection.send(CLEAN)
                assert connection.receive().headers["connection"] == "close"
            assert connection.is_closed_by_server()
    finally:
        http.close()


# --- time ---------------------------------------------------------------------------------------

BEGUN = {
    "request line": b"GET / HT",
    "head": b"POST / HTTP/1.1\r\nContent-Le",
    "no body": b"POST / HTTP/1.1\r\nContent-Length: 5\r\n\r\n",
    "half a body": b"POST / HTTP/1.1\r\nContent-Length: 5\r\n\r\nhe",
    "half a chunk": b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhe",
    "between chunks": b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
    "behind an answered one": CLEAN + b"POST / HTTP/1.1\r\nContent-Length: 5\r\n\r\nhe",
}


@pytest.mark.parametrize("begun", BEGUN.values(), ids=BEGUN.keys())
def test_a_client_that_stops_in_the_middle_gets_408(http: HttpServer, begun: bytes) -> None:
    with http.connect() as connection:
        connection.send(begun)
        if begun.startswith(CLEAN):
            assert connection.receive().status == 200
        assert in_the_middle(http)
        http.advance(STALLED_SECONDS - 5)
        assert len(http.connections.open) == 1
        http.advance(STALLED_SECONDS + 1)
        assert connection.receive().status == 408
        assert connection.is_closed_by_server()
    assert "/clean" not in [each.path for each in http.received][1:]


def in_the_middle(http: HttpServer) -> bool:
    """Whether the one connection has begun to receive a request and answers none."""

    def begun() -> bool:
        return any(each._reader.in_message and not each.busy for each in http.connections.open)

    return eventually(begun)


def test_every_byte_gives_a_stalled_client_new_time(http: HttpServer) -> None:
    with http.connect() as connection:
        for byte in b"GET / HTTP/1.1\r\n":
            connection.send(bytes([byte]))
            assert in_the_middle(http)
            http.advance(STALLED_SECONDS - 1)
        connection.send(b"\r\n")
        assert connection.receive().status == 200


def test_an_idle_connection_is_closed_without_a_word(http: HttpServer) -> None:
    with http.connect() as new, http.connect() as used:
        used.send(CLEAN)
        assert used.receive().status == 200
        assert eventually(lambda: len(http.connections.open) == 2)
        http.advance(IDLE_SECONDS - 5)
        assert len(http.connections.open) == 2
        http.advance(IDLE_SECONDS + 1)
        assert new.is_closed_by_server()
        assert used.is_closed_by_server()


def test_a_slow_handler_is_not_a_stalled_client(http: HttpServer) -> None:
    with http.connect() as connection:
        connection.send(request("GET", "/wait"))
        assert eventually(lambda: len(http.received) == 1)
        http.advance(10 * IDLE_SECONDS)
        http.open_gate()
        assert connection.receive().status == 200


@pytest.mark.parametrize("path", ["/big", "/stream"])
def test_a_client_that_never_reads_takes_memory_for_one_answer_and_harms_nobody(
    http: HttpServer, path: str
) -> None:
    with http.connect() as deaf, http.connect() as other:
        deaf.send(request("GET", path) * 10)
        assert eventually(lambda: len(http.received) == 1)
        http.settle()
        other.send(CLEAN)
        assert other.receive().status == 200
        assert [each.path for each in http.received].count(path) == 1
    assert eventually(lambda: not http.connections.open)


def test_a_client_that_never_reads_is_dropped_in_the_end(http: HttpServer) -> None:
    with http.connect() as deaf:
        deaf.send(request("GET", "/big"))
        assert eventually(lambda: len(http.received) == 1)
        http.settle()
        for looks in range(1, 4):
            http.advance(looks * 10 * IDLE_SECONDS)
        assert eventually(lambda: not http.connections.open)


def test_a_client_that_reads_slowly_is_not_dropped_while_the_kernel_has_enough_for_it(
    http: HttpServer,
) -> None:
    with http.connect() as slow:
        slow._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 64 * 1024)
        slow.send(request("GET", "/big"))
        assert eventually(lambda: any(not c._can_write.is_set() for c in http.connections.open))
        (transport,) = (connection._transport for connection in http.connections.open)
        written = transport.get_write_buffer_size()
        for looks in range(3):
            before = in_kernel(transport)
            while in_kernel(transport) >= before:
                assert slow._socket.recv(32 * 1024)
            http.advance((looks + 1) * 10 * IDLE_SECONDS)
            http.settle()
        assert transport.get_write_buffer_size() == written
        assert len(http.connections.open) == 1


def in_kernel(transport: asyncio.Transport) -> int:
    """How much of an answer the kernel holds that its client has not taken."""
    count = array("i", [0])
    fcntl.ioctl(transport.get_extra_info("socket").fileno(), termios.TIOCOUTQ, count)
    return count[0]


def test_on_stop_idle_connections_close_and_busy_ones_after_their_answer() -> None:
    http = HttpServer()
    try:
        with http.connect() as idle, http.connect() as busy:
            idle.send(CLEAN)
            assert idle.receive().status == 200
            busy.send(request("GET", "/wait"))
            assert eventually(lambda: len(http.received) == 2)
            http.call(http.connections.stop)
            assert idle.is_closed_by_server()
            http.open_gate()
            answer = busy.receive()
            assert (answer.status, answer.headers["connection"]) == (200, "close")
            assert busy.is_closed_by_server()
    finally:
        http.close()


def test_a_connection_that_has_not_asked_yet_is_served_by_a_server_that_stops() -> None:
    http = HttpServer()
    try:
        with http.connect() as connection:
            assert eventually(lambda: len(http.connections.open) == 1)
            http.call(http.connections.stop)
            connection.send(CLEAN)
            assert connection.receive().headers["connection"] == "close"
    finally:
        http.close()


def test_a_refused_client_that_keeps_sending_still_reads_why(http: HttpServer) -> None:
    connection: RawConnection
    with http.connect() as connection:
        connection.send(request("POST", "/", f"Content-Length: {100 << 20}"))
        for _ in range(50):
            connection.send(b"x" * 10_000)
        assert connection.receive().status == 413
    assert isinstance(next(iter(http.connections.open), None), HttpProtocol | None)
