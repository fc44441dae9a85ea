from __future__ import annotations

import pytest

from handlers.types import Headers, Request

HEADERS = Headers((("Host", "a"), ("X-Tag", "1"), ("accept", "text/csv"), ("x-tag", "2")))


@pytest.mark.parametrize("name", ["Accept", "accept", "ACCEPT"])
def test_a_look_up_ignores_case(name: str) -> None:
    assert HEADERS[name] == "text/csv"
    assert HEADERS.get(name) == "text/csv"
    assert name in HEADERS


def test_a_header_that_is_missing_is_told_as_by_any_mapping() -> None:
    assert HEADERS.get("X-Other") is None
    assert HEADERS.get("X-Other", "default") == "default"
    assert HEADERS.get(key="X-Other", default="default") == "default"
    assert "X-Other" not in HEADERS
    with pytest.raises(KeyError):
        HEADERS["X-Other"]


def test_a_header_sent_twice_is_one_with_both_values() -> None:
    assert HEADERS["X-Tag"] == "1, 2"
    assert len(HEADERS) == 3


def test_iteration_keeps_the_order_and_the_first_spelling() -> None:
    assert list(HEADERS) == ["Host", "X-Tag", "accept"]
    assert dict(HEADERS) == {"Host": "a", "X-Tag": "1, 2", "accept": "text/csv"}


def test_headers_equal_a_dict_of_the_same() -> None:
    assert HEADERS == {"Host": "a", "X-Tag": "1, 2", "accept": "text/csv"}
    assert not Headers()


def test_a_request_knows_its_types_or_has_none() -> None:
    request = Request(b"", Headers((("CONTENT-TYPE", "text/csv"), ("accept", "*/*"))))
    assert (request.content_type, request.accept) == ("text/csv", "*/*")
    assert (Request(b"").content_type, Request(b"").accept) == ("", "")
