"""What left memory last, with the reasons, as a terminal shows it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime

from rich.cells import cell_len
from rich.console import RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from modelyard.status import words
from modelyard.status.picture import Departure
from modelyard.status.words import Name, Reason

_LEFT = {
    "evict": "evicted",
    "park": "parked",
    "unload": "unloaded",
    "load_failed": "load failed",
    "instance_lost": "instance lost",
}
_FAILURES = frozenset({"load_failed", "instance_lost"})
_CLOCK = len("00:00:00  ")


def drawn(departures: Sequence[Departure], width: int, reasons: int) -> Iterator[RenderableType]:
    """A line for each of at least one; below it a reason that it has no room for.

    That takes ``reasons`` lines at most.
    """
    yield Text()
    yield Text("left memory last", "dim")
    kinds = [_left(one) for one in departures]
    widest = max(map(len, kinds))
    for one, kind in zip(departures, kinds, strict=True):
        begin, reason = _CLOCK + widest + 2, words.plain(str(one.event.get("text", "")))
        beside = begin + cell_len(one.name) + 2 + cell_len(reason) <= width
        line = Table.grid(padding=(0, 2, 0, 0), pad_edge=False)
        for least in (_CLOCK - 2, widest, None):  # only a name gives way
            line.add_column(min_width=least)
        bad = one.event.get("kind") in _FAILURES
        line.add_row(
            Text(_clock(one.event.get("time", 0.0)), "dim"),
            Text(kind, "red" if bad else ""),
            Name(one.name),
            *([Text(reason, "dim")] if beside else []),
        )
        yield line
        if reason and not beside:
            yield Padding.indent(Reason(reason, reasons), _CLOCK)


def _left(departure: Departure) -> str:
    kind = str(departure.event.get("kind"))
    times = f" x{departure.times:,}" if departure.times > 1 else ""
    return f"{_LEFT.get(kind, kind)}{times}"


def _clock(seconds: float) -> str:
    return datetime.fromtimestamp(seconds).strftime("%H:%M:%S")
