"""Which variant of an endpoint takes a request: by weight."""

from __future__ import annotations

from collections.abc import Sequence


def pick(weights: Sequence[tuple[str, float]], dice: float) -> str | None:
    """The name of a variant, as often as its weight says; None if no weight is above 0.

    ``dice`` is from [0, 1). A variant of weight 0 is never taken.
    """
    weighted = [(name, weight) for name, weight in weights if weight > 0]
    if not weighted:
        return None
    most = max(weight for _, weight in weighted)
    left = dice * sum(weight / most for _, weight in weighted)  # shares: a sum cannot overflow
    for name, weight in weighted:
        left -= weight / most
        if left < 0:
            return name
    return weighted[-1][0]  # what rounding left over
