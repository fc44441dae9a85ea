"""Strings of strangers, as messages show them."""

from __future__ import annotations

from archives.quoting import shown


def test_what_is_shown_of_a_clients_text_is_quoted_and_short() -> None:
    assert shown("a\nb") == r"'a\nb'"
    assert len(shown("x" * 100_000)) < 250
