"""What HTTP/1.1 asks of any server, seen through a bare socket."""

from __future__ import annotations

from collections.abc import Callable

from .endpoint import Endpoint, path_of
from .raw import RawConnection, chunk, post, request

Connect = Callable[[], RawConnection]


def invoke_path(endpoint: Endpoint) -> str:
    """Where an echo model answers."""
    return path_of(endpoint.loaded("echo")) + "/invoke"


def test_a_connection_serves_several_requests(endpoint: Endpoint, connect: Connect) -> None:
    target, connection = invoke_path(endpoint), connect()
    for body in (b"one", b"", b"three" * 10_000):
        connection.send(post(target, body))
        assert connection.receive().body == body


def test_after_an_error_the_connection_goes_on_or_says_that_it_closes(
    endpoint: Endpoint, connect: Connect
) -> None:
    target, connection = invoke_path(endpoint), connect()
    connection.send(post("/models/unknown/invoke", b"x"))
    error = connection.receive()
    assert error.status == 404
    if error.headers.get("connection", "").lower() == "close":
        assert connection.is_closed_by_server()
    else:
        connection.send(post(target, b"x"))
        assert connection.receive().body == b"x"


def test_pipelined_requests_are_answered_in_order(endpoint: Endpoint, connect: Connect) -> None:
    target, connection = invoke_path(endpoint), connect()
    bodies = [b"%d" % number for number in range(8)]
    connection.send(b"".join(post(target, body) for body in bodies))
    assert [connection.receive().body for _ in bodies] == bodies


def test_a_quick_answer_does_not_overtake_the_slow_one_asked_for_before(
    endpoint: Endpoint, connect: Connect
) -> None:
    slow, connection = path_of(endpoint.loaded("sleeps")) + "/invoke", connect()
    connection.send(post(slow, b"0.3") + post("/models/unknown/invoke", b"x"))
    assert connection.receive().body == b"slept 0.3"
    assert connection.receive().status == 404


def test_a_connection_closes_when_the_client_asks(endpoint: Endpoint, connect: Connect) -> None:
    connection = connect()
    connection.send(request("GET", "/ping", "Connection: close"))
    assert connection.receive().status == 200
    assert connection.is_closed_by_server()


def test_a_chunked_request_body_arrives_whole(endpoint: Endpoint, connect: Connect) -> None:
    target, connection = invoke_path(endpoint), connect()
    head = request("POST", target, "Transfer-Encoding: chunked")
    parts = [b"first", b"\r\n0\r\n\r\n", b"x" * 100_000]
    connection.send(head, *(chunk(part) for part in parts), chunk(b""))
    assert connection.receive().body == b"".join(parts)


def test_a_body_sent_byte_by_byte_arrives_whole(endpoint: Endpoint, connect: Connect) -> None:
    connection, message = connect(), post(invoke_path(endpoint), b"slowly")
    connection.send(*(message[at : at + 1] for at in range(len(message))))
    assert connection.receive().body == b"slowly"


def test_header_names_may_be_in_any_case(endpoint: Endpoint, connect: Connect) -> None:
    target, connection = invoke_path(endpoint), connect()
    connection.send(request("POST", target, "CONTENT-LENGTH: 5", body=b"hello"))
    assert connection.receive().body == b"hello"


def test_expect_100_continue_is_answered_before_the_body(
    endpoint: Endpoint, connect: Connect
) -> None:
    target, connection = invoke_path(endpoint), connect()
    connection.send(request("POST", target, "Content-Length: 5", "Expect: 100-continue"))
    assert connection.receive().status == 100
    connection.send(b"hello")
    assert connection.receive().body == b"hello"
