"""Moments, durations, rates, sizes and names as people write them: the parts of sentences."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from archives.quoting import shown
from model_server.memory.ledger import RAM, shown_bytes

_NAME_CHARS = 80
_NAMED = 3
_MINUTE, _HOUR, _DAY = 60.0, 3600.0, 86400.0


@dataclass(frozen=True, slots=True)
class Times:
    """How moments are told. ``now`` is seconds since the epoch; ``local`` tells the local time."""

    now: float
    local: Callable[[float], datetime]

    def told(self, at: float) -> str:
        """The time of day, with the date when that is not today's."""
        moment = self.local(at)
        if moment.date() == self.local(self.now).date():
            return f"{moment:%H:%M:%S}"
        return f"{moment:%Y-%m-%d %H:%M:%S}"


def shown_seconds(seconds: float) -> str:
    """A duration, in the unit in which it is a small number."""
    if seconds <= 0:
        return "0 s"
    if seconds < 0.0995:
        return f"{max(round(seconds * 1000), 1)} ms"
    if seconds < 9.95:
        return f"{seconds:.1f}".removesuffix(".0") + " s"
    for unit, name in ((1.0, "s"), (_MINUTE, "min"), (_HOUR, "h")):
        if seconds < 99.5 * unit:
            return f"{seconds / unit:.0f} {name}"
    return f"{seconds / _DAY:,.0f} days"


def shown_rate(uses_per_hour: float) -> str:
    """How often a model is used."""
    if uses_per_hour <= 0:
        return "never used"
    if uses_per_hour < 0.095:
        return "hardly used any more"
    digits = 0 if uses_per_hour >= 9.95 else 1
    number = f"{uses_per_hour:,.{digits}f}".removesuffix(".0")
    return f"{number} {'use' if number == '1' else 'uses'} an hour"


def shown_sizes(sizes: Mapping[str, int]) -> str:
    """Bytes by ledger; RAM is named only beside others."""
    if not sizes:
        return shown_bytes(0)
    if list(sizes) == [RAM]:
        return shown_bytes(sizes[RAM])
    return joined([f"{shown_bytes(count)} of {ledger_name(name)}" for name, count in sizes.items()])


def not_zero(sizes: Mapping[str, int]) -> Mapping[str, int]:
    """The ledgers of which there is something; all of them when there is nothing."""
    return {name: count for name, count in sizes.items() if count} or sizes


def ledger_name(name: str) -> str:
    """What a ledger is called in a sentence."""
    return "RAM" if name == RAM else name


def named(name: str) -> str:
    """A model's name as it is, but quoted when it could be mistaken for something else."""
    plain = name.isprintable() and name == name.strip() and len(name) <= _NAME_CHARS
    return name if plain and not name.startswith(("'", '"')) else shown(name)


def shown_uses(uses: int, uses_per_hour: float, idle_seconds: float | None) -> str:
    """How often a model is used: from a single use follows no rate."""
    if uses == 1 and idle_seconds is not None:
        return f"used once, {shown_seconds(idle_seconds)} before"
    return shown_rate(uses_per_hour)


def one_line(text: str, most_chars: int = 300) -> str:
    """Text from elsewhere, without line breaks and whatever else could harm a terminal."""
    line = " ".join(text.split())
    line = "".join(char if char.isprintable() else "�" for char in line)
    return line if len(line) <= most_chars else f"{line[:most_chars]}…"


def joined(words: Sequence[str], total: int = 0) -> str:
    """The first of them, with commas and "and", and how many more there are of ``total``."""
    more = max(total, len(words)) - _NAMED
    if more > 1:
        words = [*words[:_NAMED], f"{more} others"]
    elif total > len(words):
        more = total - len(words)
        words = [*words, "1 other" if more == 1 else f"{more} others"]
    if len(words) < 2:
        return "".join(words)
    return f"{', '.join(words[:-1])} and {words[-1]}"
