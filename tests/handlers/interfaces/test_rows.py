from __future__ import annotations

import contextlib
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from handlers.errors import InvalidInput
from handlers.interfaces.rows import row_of
from handlers.types import Headers, Request

Ask = Callable[..., Request]


def multipart(*parts: bytes) -> bytes:
    return b"".join(b"--xyz\r\n" + part + b"\r\n" for part in parts) + b"--xyz--\r\n"


FORM = "multipart/form-data; boundary=xyz"


@pytest.mark.parametrize("content_type", ["", "application/json", "text/plain", "image/png"])
def test_a_body_is_under_body_byte_for_byte(ask: Ask, content_type: str) -> None:
    assert row_of(ask(b"[1]", content_type)) == {"body": bytearray(b"[1]")}


@pytest.mark.parametrize(
    ("content_type", "body", "value"),
    [
        ("application/json; charset=utf-8", b'{"a": 1}', {"a": 1}),
        ("application/json", b"{", bytearray(b"{")),
        ("text/csv", "é".encode(), "é"),
        ("text/plain", b"\xff", bytearray(b"\xff")),
        ("application/octet-stream", b"[1]", bytearray(b"[1]")),
        ("", b"[1]", bytearray(b"[1]")),
    ],
)
def test_where_it_is_decoded_json_and_text_are_what_they_say(
    ask: Ask, content_type: str, body: bytes, value: object
) -> None:
    assert row_of(ask(body, content_type), decoded=True) == {"body": value}


def test_the_fields_of_a_form_are_under_their_names(ask: Ask) -> None:
    row = row_of(ask(b"a=1&b=%C3%A9&empty=", "application/x-www-form-urlencoded"))
    assert row == {"a": bytearray(b"1"), "b": bytearray("é".encode()), "empty": bytearray()}


def test_the_parts_of_a_multipart_body_are_under_their_names(ask: Ask) -> None:
    body = multipart(
        b'Content-Disposition: form-data; name="data"; filename="a;b.png"\r\n'
        b"Content-Type: image/png\r\n\r\n\x89PNG\r\n\r\n\x00--xy",
        b'content-disposition: form-data; name="text"\r\n\r\n{"a": 1}',
        b"Content-Disposition: form-data; name=json\r\n"
        b'Content-Type: application/json\r\n\r\n{"a": 1}',
    )
    row = row_of(ask(body, FORM))
    assert row["data"] == b"\x89PNG\r\n\r\n\x00--xy"
    assert (row["text"], row["json"]) == (b'{"a": 1}', b'{"a": 1}')
    decoded = row_of(ask(body, FORM), decoded=True)
    assert (decoded["text"], decoded["json"]) == (b'{"a": 1}', {"a": 1})


@pytest.mark.parametrize(
    ("body", "content_type", "reason"),
    [
        (b"", "multipart/form-data", "needs a boundary"),
        (b"", FORM, "not multipart"),
        (b"--xyz\r\n", FORM, "not whole"),
        (multipart(b"Content-Type: a/b\r\n\r\nx"), FORM, "no name"),
        (multipart(b"x"), FORM, "no name"),
        (b"a=\xff", "application/x-www-form-urlencoded", "not a form"),
        (b"a=1&" * 20_000, "application/x-www-form-urlencoded", "not a form"),
    ],
)
def test_a_form_that_is_none_is_400(ask: Ask, body: bytes, content_type: str, reason: str) -> None:
    with pytest.raises(InvalidInput, match=reason):
        row_of(ask(body, content_type))


@given(
    st.binary(max_size=100),
    st.sampled_from([FORM, "application/x-www-form-urlencoded", "multipart/form-data; boundary="]),
)
def test_any_bytes_are_a_form_or_an_error_of_the_client(body: bytes, content_type: str) -> None:
    request = Request(b"--xyz" + body + b"\r\n--xyz--", Headers((("Content-Type", content_type),)))
    with contextlib.suppress(InvalidInput):
        row_of(request)
