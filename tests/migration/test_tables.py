from __future__ import annotations

import pytest

from .tables import Rows, keys_of

PAGE = """
| `head` | here |
|---|---|
| `a`, `b` | what `other` says |
| plain | `nothing` |

Text with `code` in it.

| key | two |
|:--|--:|
| `c` | |
"""


def test_keys_are_the_code_in_first_cells() -> None:
    assert keys_of(PAGE) == ["a", "b", "c"]


def test_a_row_without_a_test_fails_and_so_does_a_test_without_a_row() -> None:
    rows = Rows("how-to/migrate-from-triton.md")
    with pytest.raises(AssertionError, match="rows without a test"):
        rows.check()
    rows.tested = [*rows.there, "no_such_key"]
    with pytest.raises(AssertionError, match=r"not on the page: \['no_such_key'\]"):
        rows.check()
    rows.tested = list(rows.there)
    rows.check()
