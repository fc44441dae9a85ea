"""Answers about headers, kept: clients send the same few over and over."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache, wraps
from typing import TypeVar, TypeVarTuple

MAX_KEPT = 256  # answers of one function
MAX_CHARS = 256  # of the text asked about; a longer one is a client's invention, answered afresh

Rest = TypeVarTuple("Rest")
Answer = TypeVar("Answer")


def remembered(function: Callable[[str, *Rest], Answer]) -> Callable[[str, *Rest], Answer]:
    """Keep the last answers of a pure function of a text; exceptions are not kept.

    The other arguments, and the answer, must be immutable, and the others the server's own choice.
    """
    kept = lru_cache(maxsize=MAX_KEPT)(function)

    @wraps(function)
    def answer(text: str, *rest: *Rest) -> Answer:
        return kept(text, *rest) if len(text) <= MAX_CHARS else function(text, *rest)

    return answer
