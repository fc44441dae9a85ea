"""What the GPU check found, as a table."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

HEAD = ("Check", "Measured", "Target", "Met")
NONE = "-"


@dataclass(frozen=True)
class Row:
    """One line; ``met`` None where there is nothing to meet."""

    check: str
    measured: str
    target: str = NONE
    met: bool | None = None


def at_most(check: str, value: float, limit: float, unit: str) -> Row:
    """A number that should not be above a limit."""
    return Row(check, f"{value:,.0f} {unit}", f"≤ {limit:,.0f} {unit}", value <= limit)


def holds(check: str, measured: str, met: bool) -> Row:
    """Something that is so or not."""
    return Row(check, measured, "yes", met)


def table(rows: Iterable[Row]) -> str:
    """The rows under their heads, aligned."""
    met = {None: NONE, True: "yes", False: "NO"}
    cells = [HEAD, *((row.check, row.measured, row.target, met[row.met]) for row in rows)]
    widths = [max(len(line[column]) for line in cells) for column in range(len(HEAD))]
    return "\n".join(_line(line, widths) for line in cells)


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    padded = (cell.ljust(width) for cell, width in zip(cells, widths, strict=True))
    return "  ".join(padded).rstrip()


def exit_code(rows: Iterable[Row]) -> int:
    """0 when nothing that should be met was missed, else 1."""
    return int(any(row.met is False for row in rows))
