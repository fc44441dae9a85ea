"""What came out of a run, by measure and server."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from statistics import median

from benchmarks.measures import GRIDS, MEASURES, Measure

OURS = "Modelyard"
THEIRS = "multi-model-server"


@dataclass
class Results:
    """The median of what was measured, and what went wrong.

    ``cells`` are those of grids: by grid, row and column. ``load_before`` is the load average at
    the start: above about 0.5, other work was in the way.
    """

    values: dict[tuple[str, str], float] = field(default_factory=dict)
    cells: dict[tuple[str, str, str], float] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)
    load_before: float = field(default_factory=lambda: os.getloadavg()[0])

    def record(self, key: str, server: str, samples: Iterable[float]) -> None:
        """Keep the median of ``samples`` and show it at once."""
        measure, value = MEASURES[key], median(samples)
        self.values[key, server] = value
        _show(measure, measure.title, server, value)

    def fill(self, grid: str, row: str, column: str, samples: Iterable[float]) -> None:
        """Keep the median of ``samples`` as a cell of a grid and show it at once."""
        measure, value = GRIDS[grid].columns[column], median(samples)
        self.cells[grid, row, column] = value
        _show(measure, f"{GRIDS[grid].rows} {row}: {measure.title}", OURS, value)

    def pair(self, key: str) -> tuple[float | None, float | None]:
        """Ours and theirs."""
        return self.values.get((key, OURS)), self.values.get((key, THEIRS))

    def measured(self, among: Iterable[str]) -> list[str]:
        """The measures that at least one server has a value for, in the order given."""
        return [key for key in among if self.pair(key) != (None, None)]

    def rows(self, grid: str) -> list[str]:
        """The rows of a grid that were measured, in that order."""
        return list(dict.fromkeys(row for name, row, _ in self.cells if name == grid))


def _show(measure: Measure, title: str, server: str, value: float) -> None:
    print(f"  {title:58} {server:20} {value:10.4g} {measure.unit}", flush=True)
