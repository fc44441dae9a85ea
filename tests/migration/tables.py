"""Which rows the tables of a page have, and which of them are tested: they must be the same."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

DOCS = Path(__file__).parents[2] / "docs"

Test = TypeVar("Test", bound=Callable[..., object])

_CODE = re.compile(r"`([^`]+)`")
_RULE = re.compile(r"[|\s:-]+")


class Rows:
    """The rows of one page, by what stands as code in their first cell.

    ``@rows("key", "other")`` above a test says that it checks what these rows claim.
    """

    def __init__(self, page: str) -> None:
        self.there = keys_of((DOCS / page).read_text())
        self.tested: list[str] = []

    def __call__(self, *keys: str) -> Callable[[Test], Test]:
        """Note the rows that a test checks."""

        def note(test: Test) -> Test:
            self.tested += keys
            return test

        return note

    def check(self) -> None:
        """Fail unless each row has a test, and each test a row."""
        untested = sorted(set(self.there) - set(self.tested))
        gone = sorted(set(self.tested) - set(self.there))
        assert not untested, f"rows without a test: {untested}"
        assert not gone, f"tests of rows that are not on the page: {gone}"
        twice = sorted({key for key in self.there if self.there.count(key) > 1})
        assert not twice, f"keys in two rows: {twice}"


def keys_of(text: str) -> list[str]:
    """What stands as code in the first cells of a page's tables, their heads left out."""
    found: list[str] = []
    lines = text.splitlines()
    for before, line in zip(lines, [*lines[1:], ""], strict=True):
        if not before.startswith("|") or _RULE.fullmatch(before) or _RULE.fullmatch(line):
            continue  # no row; the rule; the head, which has the rule below it
        found += _CODE.findall(before.split("|")[1])
    return found
