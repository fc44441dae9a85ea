"""The picture of a replay: reload seconds and misses by policy and memory size."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import matplotlib as mpl

mpl.use("Agg")
from matplotlib import pyplot

if TYPE_CHECKING:
    from modelyard.replay import Row


def write_plot(rows: Sequence[Row], path: Path) -> None:
    """Write a PNG; raises OSError when that cannot be done."""
    figure, axes = pyplot.subplots(1, 2, figsize=(9, 3.6), layout="constrained")
    memory = list(dict.fromkeys(row.memory for row in rows))
    policies = list(dict.fromkeys(row.policy for row in rows))
    for axis, name, title in (
        (axes[0], "reload_seconds", "seconds spent on reloads"),
        (axes[1], "misses", "uses that did not find their model"),
    ):
        width = 0.8 / len(policies)
        for index, policy in enumerate(policies):
            heights = [getattr(row, name) for row in rows if row.policy == policy]
            places = [
                place + (index - (len(policies) - 1) / 2) * width for place in range(len(memory))
            ]
            axis.bar(places, heights, width, label=policy)
        axis.set_xticks(range(len(memory)), memory)
        axis.set_xlabel("memory")
        axis.set_title(title, fontsize=10)
        axis.spines[["top", "right"]].set_visible(False)
    axes[0].legend(frameon=False)
    figure.savefig(path, dpi=110)
    pyplot.close(figure)
