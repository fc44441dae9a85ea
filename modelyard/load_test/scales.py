"""Axes of a plot: where on it a value lies, and which values are written beside it."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

Label = Callable[[float], str]


@dataclass(frozen=True, slots=True)
class Scale:
    """An axis between two values, ``low < high``. ``share`` says where a value lies: 0 to 1."""

    low: float
    high: float
    ticks: tuple[float, ...]
    bend: Callable[[float], float] = float
    label: Label = "{:g}".format

    def share(self, value: float) -> float:
        """What lies outside is put at the edge."""
        low, high = self.bend(self.low), self.bend(self.high)
        return (self.bend(min(max(value, self.low), self.high)) - low) / (high - low)


def linear(high: float, label: Label = "{:,g}".format, *, whole: bool = False) -> Scale:
    """From 0 to a round number that is not below ``high``."""
    step = _step(max(high, 1e-9) / 4)
    if whole:
        step = max(1.0, step)
    count = max(1, math.ceil(high / step - 1e-9))
    ticks = tuple(round(step * number, 10) for number in range(count + 1))
    return Scale(0, ticks[-1], ticks, label=label)


def seconds(high: float) -> Scale:
    """From 0 to exactly ``high``, as minutes and hours where they are many."""
    steps = [s * unit for unit in (1, 60, 3600) for s in (1, 2, 5, 10, 15, 30)] + [86_400.0]
    step = next((step for step in steps if high / step <= 8), 86_400.0)
    if high < 4:
        step = _step(max(high, 1e-3) / 5)
    ticks = tuple(step * number for number in range(int(high / step) + 1))
    return Scale(0, max(high, 1e-3), ticks, label=_time)


def logarithmic(low: float, high: float, label: Label) -> Scale:
    """Whole powers of ten on both ends, both values greater than 0."""
    first = math.floor(math.log10(low) + 1e-9)
    last = max(first + 1, math.ceil(math.log10(high) - 1e-9))
    ticks = tuple(10.0**power for power in range(first, last + 1))
    return Scale(ticks[0], ticks[-1], ticks, math.log10, label)


def percentiles(count: int) -> Scale:
    """Shares of ``count`` values, wider towards 1: 0, 50 %, 90 %, 99 % and so on."""
    nines = min(5, max(1, math.floor(math.log10(max(count, 10)))))
    ticks = (0.0, 0.5, *(1 - 10.0**-nine for nine in range(1, nines + 1)))
    return Scale(0, ticks[-1], ticks, lambda share: -math.log10(1 - share), _percent)


def _step(raw: float) -> float:
    """The smallest of 1, 2 and 5 times a power of ten that is not below."""
    power = 10.0 ** math.floor(math.log10(raw))
    return next(power * digit for digit in (1, 2, 5, 10) if power * digit >= raw * (1 - 1e-9))


def _time(value: float) -> str:
    if value >= 3600:
        return f"{value / 3600:g} h"
    return f"{value / 60:g} min" if value >= 60 and value % 30 == 0 else f"{value:g} s"


def _percent(share: float) -> str:
    return f"p{100 * share:.6g}" if share else "min"
