from __future__ import annotations

import pytest

from handlers.data.remembered import MAX_CHARS, MAX_KEPT, remembered


def test_a_short_text_is_looked_at_once_for_each_set_of_arguments() -> None:
    calls: list[tuple[str, int]] = []

    @remembered
    def times(text: str, count: int) -> str:
        calls.append((text, count))
        return text * count

    assert [times("a", 2), times("a", 2), times("a", 3)] == ["aa", "aa", "aaa"]
    assert calls == [("a", 2), ("a", 3)]


def test_a_long_text_and_old_ones_are_not_kept() -> None:
    calls: list[str] = []

    @remembered
    def length(text: str) -> int:
        calls.append(text)
        return len(text)

    long = "a" * (MAX_CHARS + 1)
    assert [length(long), length(long)] == [len(long), len(long)]
    assert len(calls) == 2
    for number in [*range(MAX_KEPT + 1), 0]:
        length(str(number))
    assert calls.count("0") == 2


def test_what_raises_is_tried_again() -> None:
    calls: list[str] = []

    @remembered
    def refuse(text: str) -> None:
        calls.append(text)
        raise ValueError(text)

    for _ in range(2):
        with pytest.raises(ValueError, match="no"):
            refuse("no")
    assert len(calls) == 2
