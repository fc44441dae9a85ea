"""Reads a directory in the format of the Azure Functions data set of 2019 (Shahrad et al. 2020).

Its files have a column of invocations for each minute of a day and, elsewhere, the memory of each
application. A model is an application.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path

from modelyard.traces import Trace, TraceError, counted, readable

MINUTES = 1440

# Of the invocations of a minute, so many are told apart, evenly spread.
MOST_IN_A_MINUTE = 12

# Where in its minute an application begins: spread by this, so that not all begin at once.
_GOLDEN = 0.6180339887

_MIB = 1 << 20


def read_azure(directory: Path) -> Trace:
    """The invocations of all days in the directory, of applications whose memory is known."""
    if not directory.is_dir():
        raise TraceError("the Azure format is a directory of CSV files")
    invoked = sorted(directory.glob("*inv*.csv"))
    weighed = sorted(directory.glob("*mem*.csv"))
    if not invoked or not weighed:
        raise TraceError("it should hold CSV files with `inv` and with `mem` in their names")
    trace = Trace()
    for path in weighed:
        for row in _rows(path, ("HashApp", "AverageAllocatedMb")):
            number = trace.number(row["HashApp"])
            trace.size_bytes[number] = int(_number(row["AverageAllocatedMb"], path) * _MIB)
    unknown = 0
    for day, path in enumerate(invoked):
        unknown += _add_day(trace, path, day)
    if unknown:
        functions = counted(unknown, "function")
        trace.notes.append(f"{functions} left out: the memory of the app is not known")
    trace.notes.append(
        f"the invocations of a minute are spread over it, {MOST_IN_A_MINUTE} of them at most"
    )
    return trace


def _rows(path: Path, needed: tuple[str, ...]) -> Iterator[dict[str, str]]:
    with readable(path), path.open(encoding="utf-8-sig", newline="") as file:
        rows = csv.DictReader(file)
        missing = [name for name in needed if name not in (rows.fieldnames or ())]
        if missing:
            raise TraceError(f"{path.name} has no column {missing[0]}")
        for row in rows:
            if any(row[name] is None for name in needed):
                raise TraceError(f"{path.name}: line {rows.line_num} has too few columns")
            yield row


def _number(text: str | None, path: Path) -> float:
    try:
        number = float(text or 0)
    except ValueError:
        number = -1.0
    if not 0 <= number < 1e12:
        raise TraceError(f"{path.name}: {text!r} is no number that can be")
    return number


def _add_day(trace: Trace, path: Path, day: int) -> int:
    minutes: list[list[tuple[int, int]]] = [[] for _ in range(MINUTES)]
    unknown = 0
    known = set(trace.names)
    for row in _rows(path, ("HashApp",)):
        if row["HashApp"] not in known:
            unknown += 1
            continue
        number = trace.number(row["HashApp"])
        for minute in range(MINUTES):
            text = row.get(f"minute_{minute + 1}") or row.get(str(minute + 1))
            if text and text != "0":
                minutes[minute].append((number, int(_number(text, path))))
    for minute, cells in enumerate(minutes):
        _add_minute(trace, 60.0 * (day * MINUTES + minute), cells)
    return unknown


def _add_minute(trace: Trace, begin: float, cells: list[tuple[int, int]]) -> None:
    uses = []
    for number, count in cells:
        told = min(count, MOST_IN_A_MINUTE)
        phase = number * _GOLDEN % 1
        uses += [(begin + 60 * (step + phase) / told, number) for step in range(told)]
    uses.sort()
    for at, number in uses:
        trace.add(at, number)
