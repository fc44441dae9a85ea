"""What a classifier's output means."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


def top_probability(data: Any, labels: Sequence[Any], top: int = 5) -> list[dict[str, Any]]:
    """The likeliest classes of the first row, each with its ``probability`` and ``class``."""
    row = data.squeeze().asnumpy().tolist()
    best = sorted(range(len(row)), key=lambda number: -row[number])[:top]
    return [{"probability": row[number], "class": labels[number]} for number in best]
