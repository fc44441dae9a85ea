"""What this project's own container answers about its memory, read; and in words. Pure.

Other containers have no such routes, or others of the same name: then ``NotTold`` is raised.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeVar

import msgspec

T = TypeVar("T")

_RAM = "ram"
# Their memory has been given back; what they are said to hold is what they held before.
_AWAY = ("EVICTED", "FAILED", "GONE")

_CAUSES = {
    "load": "which was loaded",
    "return": "which came back",
    "worker": "which got another process",
    "growth": "which had grown",
    "device": "whose GPU was full",
}
_KINDS = {"evict": "evict", "park": "park"}
_UNITS = ((3600.0, "h"), (60.0, "min"), (1.0, "s"))
_MIB = 1 << 20


class NotTold(Exception):
    """Raised for an answer that is not one of our container's."""


class _Held(msgspec.Struct, rename="camel"):
    model_name: str
    state: str
    held_bytes: dict[str, int]


class _Memory(msgspec.Struct):
    models: list[_Held]


class Left(msgspec.Struct, rename="camel"):
    """A model that left for another one."""

    model_name: str
    move: str
    freed_bytes: int
    ledger: str
    reload_seconds: float
    uses_per_hour: float
    idle_seconds: float | None


class Decision(msgspec.Struct, rename="camel"):
    """Who left for whom. ``at`` is seconds since 1970; numbers go up by one."""

    number: int
    at: float
    model_name: str
    cause: str
    outcome: str
    victims: list[Left]


class _Decisions(msgspec.Struct):
    decisions: list[Decision]


@dataclass(frozen=True, slots=True)
class Departure:
    """One model that left memory, as an event is told; ``model`` is the container's id."""

    kind: str  # "evict", or "park": off a GPU, into RAM
    model: str
    at: float
    text: str


def held_in(body: bytes) -> dict[str, int]:
    """Bytes of RAM that each model holds now, by its id. Raises NotTold."""
    models = _read(body, _Memory).models
    return {
        one.model_name: 0 if one.state in _AWAY else one.held_bytes.get(_RAM, 0) for one in models
    }


def decisions_in(body: bytes) -> list[Decision]:
    """The newest first. Raises NotTold."""
    return sorted(_read(body, _Decisions).decisions, key=lambda one: -one.number)


def departures(decision: Decision, name: Callable[[str], str]) -> Iterator[Departure]:
    """Who left by a decision, if anybody; ``name`` is what people call a model."""
    if decision.outcome == "evict":
        for left in decision.victims:
            if left.move in _KINDS:
                text = f"for {_whom(decision, name)}: {_why(left)}"
                yield Departure(_KINDS[left.move], left.model_name, decision.at, text)


def _whom(decision: Decision, name: Callable[[str], str]) -> str:
    if not decision.model_name:
        return "memory that nobody was counted with"
    cause = _CAUSES.get(decision.cause)
    return name(decision.model_name) + (f", {cause}" if cause else "")


def _why(left: Left) -> str:
    where = "" if left.ledger == _RAM else f" of {left.ledger}"
    parts = [f"{left.freed_bytes / _MIB:.0f} MiB{where} freed"]
    if left.idle_seconds is None:
        parts.append("never used")
    else:
        parts.append(f"unused for {_shown(left.idle_seconds)}")
        parts.append(f"{left.uses_per_hour:,.{0 if left.uses_per_hour >= 10 else 1}f} uses an hour")
    return ", ".join([*parts, f"back in {_shown(left.reload_seconds)}"])


def _shown(seconds: float) -> str:
    for size, unit in _UNITS:
        if seconds >= 10 * size or unit == "s":
            return (
                f"{seconds / size:.2g} {unit}" if seconds < 10 else f"{seconds / size:.0f} {unit}"
            )
    raise AssertionError(seconds)


def _read(body: bytes, type: type[T]) -> T:
    try:
        return msgspec.json.decode(body, type=type)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise NotTold(str(error)) from None
