"""What all Describe operations do to what they show."""

from __future__ import annotations

from typing import Any


def without_empty(value: Any) -> Any:
    """The value without structures and lists that hold nothing: SDKs that check types refuse them.

    Lists keep their places.
    """
    if isinstance(value, dict):
        inner = {name: without_empty(member) for name, member in value.items()}
        return {name: member for name, member in inner.items() if member not in ({}, [])}
    if isinstance(value, list):
        return [without_empty(member) for member in value]
    return value


def time(seconds: float) -> float:
    """A timestamp: seconds since 1970, to the millisecond."""
    return round(seconds, 3)
