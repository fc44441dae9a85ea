"""Reads traces from CSV files and from our own access logs."""

from __future__ import annotations

import csv
import re
from array import array
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from math import isfinite
from pathlib import Path
from urllib.parse import unquote

import msgspec

from modelyard.azure_trace import read_azure
from modelyard.traces import Trace, TraceError

COLUMNS = ("time", "model", "bytes", "reload_seconds")

_PLAIN = re.compile(r"^(\d{4}-\d\d-\d\dT[\d:.]+Z) \w+ +modelyard\.access(?: \w+='[^']*')* (.*)$")
_REQUEST = re.compile(r"^POST /models/([^/ ?]+)/invoke(?:\?\S*)? (\d{3}) ")


class _Line(msgspec.Struct):
    time: str
    logger: str
    message: str


def read_trace(path: Path, form: str) -> Trace:
    """The uses in a file or directory. ``form`` is "auto", "csv", "log" or "azure".

    Raises TraceError, and OSError when it cannot be read.
    """
    return FORMATS[_form(path) if form == "auto" else form](path)


def _form(path: Path) -> str:
    if path.is_dir():
        return "azure"
    with path.open(encoding="utf-8", errors="replace") as lines:
        first = next((line for line in lines if line.strip()), "")
    if not first:
        raise TraceError("it is empty")
    return (
        "log" if first.startswith("{") or re.match(r"\d{4}-\d\d-\d\dT\S+Z \w+ ", first) else "csv"
    )


def _moment(text: str) -> float:
    """Seconds since the epoch, or since any other start; or an ISO time, UTC where it says none."""
    try:
        found = float(text)
    except ValueError:
        moment = datetime.fromisoformat(text.strip())
        found = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    if not isfinite(found):
        raise ValueError(text)
    return found


# --- CSV ----------------------------------------------------------------------------------------


def read_csv(path: Path) -> Trace:
    """Columns ``time,model[,bytes,reload_seconds]``, in any order, with a header.

    What was given last for a model counts for the whole trace.
    """
    trace, before = Trace(), float("-inf")
    with path.open(encoding="utf-8-sig", newline="") as file:
        rows = csv.reader(file)
        columns = _columns(next(rows, []))
        for row in rows:
            if not row:
                continue
            try:
                at = _add_row(trace, row, columns)
            except (ValueError, IndexError):
                raise TraceError(f"line {rows.line_num} is not understood: {row!r:.100}") from None
            if at < before:
                raise TraceError(f"line {rows.line_num} is older than the one before: sort by time")
            before = at
    return trace


def _columns(header: list[str]) -> tuple[int, int, int | None, int | None]:
    names = [name.strip().lower() for name in header]
    missing = [name for name in COLUMNS[:2] if name not in names]
    if missing:
        shown = ",".join(header)[:100] or "nothing"
        raise TraceError(f"the first line names no column {' and no '.join(missing)}: {shown}")
    size, seconds = (names.index(name) if name in names else None for name in COLUMNS[2:])
    return names.index("time"), names.index("model"), size, seconds


def _add_row(
    trace: Trace, row: list[str], columns: tuple[int, int, int | None, int | None]
) -> float:
    time, model, size, seconds = columns
    at, name = _moment(row[time]), row[model].strip()
    if not name:
        raise ValueError("no model")
    number = trace.number(name)
    if size is not None and row[size]:
        trace.size_bytes[number] = int(_positive(row[size], 1))
    if seconds is not None and row[seconds]:
        trace.reload_seconds[number] = _positive(row[seconds], 0)
    trace.add(at, number)
    return at


def _positive(text: str, least: float) -> float:
    number = float(text)
    if not isfinite(number) or number < least:
        raise ValueError(text)
    return number


# --- access logs --------------------------------------------------------------------------------


def read_log(path: Path) -> Trace:
    """What a server with ``MODELYARD_ACCESS_LOG=all`` logged, plain or JSON, with other lines.

    Gateways write once a second, each its own lines: they are sorted here.
    """
    trace, others = Trace(), 0
    with path.open(encoding="utf-8", errors="replace") as lines:
        for at, message in _requests(lines):
            request = _REQUEST.match(message)
            if request is None or request[2] == "404" or request[1].endswith("…"):
                others += 1
            else:
                trace.add(at, trace.number(unquote(request[1])))
    if not trace.times:
        raise TraceError(
            "there is no invoke in it: the server logs them all with MODELYARD_ACCESS_LOG=all"
        )
    order = sorted(range(len(trace.times)), key=trace.times.__getitem__)
    trace.times = array("d", (trace.times[index] for index in order))
    trace.models = array("L", (trace.models[index] for index in order))
    if others:
        trace.notes.append(f"{others} requests are left out: no invokes, or of unknown models")
    return trace


def _requests(lines: Iterator[str]) -> Iterator[tuple[float, str]]:
    decoder = msgspec.json.Decoder(_Line)
    for line in lines:
        if line.startswith("{"):
            try:
                event = decoder.decode(line)
                if event.logger == "modelyard.access":
                    yield _moment(event.time), event.message
            except (msgspec.MsgspecError, ValueError):
                continue
        elif (found := _PLAIN.match(line)) is not None:
            yield _moment(found[1]), found[2]


FORMATS: dict[str, Callable[[Path], Trace]] = {
    "csv": read_csv,
    "log": read_log,
    "azure": read_azure,
}
