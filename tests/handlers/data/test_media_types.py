from __future__ import annotations

import pytest

from handlers.data.media_types import (
    CSV,
    JSON,
    NPY,
    accepts_anything,
    first_choice,
    negotiate,
    parse,
)

OFFERS = [JSON, CSV, NPY]


def test_a_type_is_taken_apart_whatever_its_case_and_spacing() -> None:
    media_type = parse(' Text/CSV ; Charset="Latin-1";header=present ')
    assert media_type.essence == CSV
    assert media_type.charset == "Latin-1"
    assert media_type.without("charset") == "text/csv; header=present"


def test_charset_is_utf8_unless_named() -> None:
    assert parse("text/csv").charset == "utf-8"


@pytest.mark.parametrize(
    ("accept", "best"),
    [
        ("", [JSON, CSV, NPY]),
        ("*/*", [JSON, CSV, NPY]),
        ("text/csv", [CSV]),
        ("TEXT/CSV", [CSV]),
        ("text/*", [CSV]),
        ("application/*", [JSON, NPY]),
        ("text/csv, application/json", [CSV, JSON]),
        ("text/csv;q=0.5, application/json", [JSON, CSV]),
        ("application/json;q=0.2, text/csv;q=0.9", [CSV, JSON]),
        ("text/csv, */*", [CSV, JSON, NPY]),
        ("text/csv, *; q=.2, */*; q=.2", [CSV, JSON, NPY]),
        ("*/*, text/csv;q=0", [JSON, NPY]),
        ("application/*;q=0.1, application/x-npy;q=0.8", [NPY, JSON]),
        ("text/csv;q=lots", [CSV]),
        ("image/png", []),
        ("nonsense", []),
    ],
)
def test_accept_orders_what_is_offered(accept: str, best: list[str]) -> None:
    assert negotiate(accept, OFFERS, JSON) == best


def test_the_default_comes_first_under_a_wildcard() -> None:
    assert negotiate("*/*", OFFERS, NPY) == [NPY, JSON, CSV]
    assert negotiate("application/*", OFFERS, NPY) == [NPY, JSON]


def test_an_empty_accept_or_a_lone_wildcard_leaves_the_choice() -> None:
    assert accepts_anything("") and accepts_anything(" */* ")
    assert not accepts_anything("*/*, text/csv")


def test_long_text_is_understood_like_any() -> None:
    long = f"text/csv; note={'a' * 1000}"
    assert parse(long).essence == CSV
    assert first_choice(f"image/png;q=0.5, {long}", JSON) == long


@pytest.mark.parametrize(
    ("accept", "choice"),
    [
        ("", JSON),
        ("*/*", JSON),
        ("image/png", "image/png"),
        ("text/csv;q=0.1, image/png;q=0.9", "image/png"),
        ("text/*, image/png", "image/png"),
        ("text/csv;q=0", JSON),
    ],
)
def test_first_choice_is_the_best_type_that_is_named(accept: str, choice: str) -> None:
    assert first_choice(accept, JSON) == choice
