"""A request and a response as the gateway sees them."""

from __future__ import annotations

from model_server.gateway.http_messages import HttpRequest, HttpResponse


def head(response: HttpResponse, *, keep_alive: bool = True) -> list[str]:
    return response.head(keep_alive=keep_alive, date="today").decode("latin-1").split("\r\n")


def test_a_header_is_found_in_any_case_and_the_first_one_counts() -> None:
    request = HttpRequest("GET", "/", "", [("X-One", "1"), ("x-ONE", "2"), ("X-Two", "3")])
    assert request.header("x-one") == "1"
    assert request.header("x-two") == "3"
    assert request.header("x-six") == ""


def test_a_response_says_its_length_type_and_date() -> None:
    lines = head(HttpResponse(200, "a/b", b"hello"))
    assert lines[0] == "HTTP/1.1 200 OK"
    assert "Content-Type: a/b" in lines
    assert "Content-Length: 5" in lines
    assert "Date: today" in lines
    assert lines[-2:] == ["", ""]


def test_a_streamed_response_says_the_length_to_come() -> None:
    assert "Content-Length: 77" in head(HttpResponse(200, length=77))


def test_the_last_response_of_a_connection_says_so() -> None:
    assert "Connection: close" in head(HttpResponse(200), keep_alive=False)
    assert "Connection: close" not in head(HttpResponse(200))


def test_a_status_that_nobody_knows_has_a_reason_all_the_same() -> None:
    assert head(HttpResponse(299))[0] == "HTTP/1.1 299 Status"


def test_headers_outside_of_latin_1_cannot_break_the_response() -> None:
    assert "X-A: ?" in head(HttpResponse(200, headers=[("X-A", "模")]))
