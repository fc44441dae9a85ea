from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from handlers.errors import InvalidOutput
from handlers.interfaces.responses import body_of, build_response


@pytest.mark.parametrize(
    ("value", "body"),
    [
        ("é", ("é".encode(), "text/plain")),
        (b"\x00", (b"\x00", "application/octet-stream")),
        (bytearray(b"a"), (b"a", "application/octet-stream")),
        (memoryview(b"a"), (b"a", "application/octet-stream")),
        ({"a": [1]}, (b'{"a": [1]}', "application/json")),
        (np.array([1, 2]), (b"[1, 2]", "application/json")),
        (None, (b"null", "application/json")),
    ],
)
def test_a_returned_value_becomes_a_body(value: Any, body: tuple[bytes, str]) -> None:
    assert body_of(value) == body


@pytest.mark.parametrize("value", [object(), {1, 2}, [object()], lambda: None])
def test_a_value_that_is_no_body_is_named(value: Any) -> None:
    with pytest.raises(InvalidOutput, match=type(value).__name__) as caught:
        body_of(value)
    assert caught.value.status == 500


def test_headers_are_kept_in_order_and_numbers_become_text() -> None:
    response = build_response(b"", "text/csv", 201, [("X-B", "b"), ("X-A", 7)])
    assert (response.status, response.content_type) == (201, "text/csv")
    assert response.headers == (("X-B", "b"), ("X-A", "7"))


@pytest.mark.parametrize("name", ["Content-Length", "transfer-encoding", "Connection"])
def test_framing_headers_are_the_servers(name: str) -> None:
    assert build_response(b"", "text/csv", 200, [(name, "1")]).headers == ()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("X-A", "a\r\nSet-Cookie: b"),
        ("X-A", "a\nb"),
        ("X-A", "a\x00"),
        ("X-A", "ツ"),
        ("X-A", b"bytes"),
        ("X-A", None),
        ("X A", "a"),
        ("X-A:", "a"),
        ("X-A\r\n", "a"),
        ("", "a"),
        (None, "a"),
    ],
)
def test_a_header_that_would_break_the_response_is_refused(name: Any, value: Any) -> None:
    with pytest.raises(InvalidOutput, match="set"):
        build_response(b"", "text/csv", 200, [(name, value)])


def test_a_content_type_is_checked_like_any_header() -> None:
    for content_type in ("text/csv\r\nX-A: b", ["text/csv"], b"text/csv", None):
        for _ in range(2):  # the refusal is not forgotten
            with pytest.raises(InvalidOutput):
                build_response(b"", content_type)  # type: ignore[arg-type]
    assert build_response(b"", " text/csv ").content_type == "text/csv"


@pytest.mark.parametrize("status", [100, 199, 600, "200", 200.0, True, None])
def test_a_status_out_of_range_is_refused(status: Any) -> None:
    with pytest.raises(InvalidOutput, match="from 200 to 599"):
        build_response(b"", "text/csv", status)
