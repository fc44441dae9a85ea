"""What a request breaks, in the platform's words.

1 validation error detected: Value 'a_b' at 'endpointName' failed to satisfy constraint:
Member must satisfy regular expression pattern: ...
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

NOT_NULL = "Member must not be null"

# A message holds 2,048 characters; several values must fit, and more than these cannot.
_SHOWN_OF_A_VALUE = 256
_SHOWN_VIOLATIONS = 20


def pattern(text: str) -> str:
    """Of strings."""
    return f"Member must satisfy regular expression pattern: {text}"


def enum(values: Sequence[str]) -> str:
    """Of strings."""
    return f"Member must satisfy enum value set: [{', '.join(values)}]"


def length(*, at_least: int | None = None, at_most: int | None = None) -> str:
    """Of strings and lists; one of the two."""
    return _bound("length", at_least, at_most)


def value(*, at_least: float | None = None, at_most: float | None = None) -> str:
    """Of numbers; one of the two."""
    return _bound("value", at_least, at_most)


def _bound(what: str, at_least: float | None, at_most: float | None) -> str:
    if at_least is not None:
        return f"Member must have {what} greater than or equal to {at_least}"
    return f"Member must have {what} less than or equal to {at_most}"


def violation(given: Any, path: str, constraint: str) -> str:
    """One broken constraint; ``given`` is None for what is missing."""
    shown = "null" if given is None else f"'{_shortened(str(given))}'"
    return f"Value {shown} at '{path}' failed to satisfy constraint: {constraint}"


def message(violations: Sequence[str]) -> str:
    """All that is wrong with a request."""
    count = len(violations)
    errors = "error" if count == 1 else "errors"
    return f"{count} validation {errors} detected: {'; '.join(violations[:_SHOWN_VIOLATIONS])}"


def _shortened(text: str) -> str:
    return text if len(text) <= _SHOWN_OF_A_VALUE else text[:_SHOWN_OF_A_VALUE] + "..."
