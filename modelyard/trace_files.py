"""Reads traces from CSV files and from our own access logs."""

from __future__ import annotations

import csv
import re
from array import array
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from functools import partial
from itertools import islice
from math import isfinite
from pathlib import Path
from typing import TextIO
from urllib.parse import unquote

import msgspec

from modelyard.azure_trace import read_azure
from modelyard.traces import Trace, TraceError, counted, readable

COLUMNS = ("time", "model", "bytes", "reload_seconds")

# What `docker compose logs` and the like put before each line.
_PREFIX = re.compile(r"^(?:\x1b\[[\d;]*m)?[\w.@/-]+ *\| ?(?:\x1b\[[\d;]*m)?")
_OURS = re.compile(r"^\d{4}-\d\d-\d\dT[\d:.]+Z [A-Z]+ +\w")
_LOOKED_AT = 100
_LOOKED_AT_CHARS = 100_000

_PLAIN = re.compile(r"^(\d{4}-\d\d-\d\dT[\d:.]+Z) \w+ +modelyard\.access(?: \w+='[^']*')* (.*)$")
_REQUEST = re.compile(r"^POST /models/([^/ ?]+)/invoke(?:\?\S*)? (\d{3}) ")


class _Line(msgspec.Struct):
    time: str
    logger: str
    message: str


_DECODER = msgspec.json.Decoder(_Line)


def read_trace(path: Path, form: str) -> Trace:
    """The uses in a file or directory. ``form`` is "auto", "csv", "log" or "azure".

    Raises TraceError, and OSError when it cannot be read.
    """
    return FORMATS[_form(path) if form == "auto" else form](path)


def _form(path: Path) -> str:
    if path.is_dir():
        return "azure"
    with readable(path), path.open(encoding="utf-8-sig", errors="replace") as file:
        lines = [line for line in islice(_short_lines(file), _LOOKED_AT) if line.strip()]
    if not lines:
        raise TraceError("it is empty")
    names = {name.strip().lower() for name in lines[0].split(",")}
    if names.issuperset(COLUMNS[:2]):
        return "csv"
    return "log" if lines[0].startswith("{") or any(map(_is_ours, lines)) else "csv"


def _short_lines(file: TextIO) -> Iterator[str]:
    return iter(partial(file.readline, _LOOKED_AT_CHARS), "")


def _is_ours(line: str) -> bool:
    """Whether our server logs such lines, whatever was put before them."""
    line = _PREFIX.sub("", line)
    return _event(line) is not None if line.startswith("{") else bool(_OURS.match(line))


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
    with readable(path), path.open(encoding="utf-8-sig", newline="") as file:
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
    with readable(path), path.open(encoding="utf-8-sig", errors="replace") as lines:
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
        requests = counted(others, "request")
        trace.notes.append(f"{requests} left out: no invokes, or of unknown models")
    return trace


def _requests(lines: Iterator[str]) -> Iterator[tuple[float, str]]:
    for line in lines:
        if "modelyard.access" not in line:
            continue
        found = _request(_PREFIX.sub("", line))
        if found is None:
            continue
        try:
            at = _moment(found[0])
        except (ValueError, OverflowError):  # somebody else's
            continue
        yield at, found[1]


def _request(line: str) -> tuple[str, str] | None:
    if line.startswith("{"):
        event = _event(line)
        if event is None or event.logger != "modelyard.access":
            return None
        return event.time, event.message
    found = _PLAIN.match(line)
    return None if found is None else (found[1], found[2])


def _event(line: str) -> _Line | None:
    try:
        return _DECODER.decode(line)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return None


FORMATS: dict[str, Callable[[Path], Trace]] = {
    "csv": read_csv,
    "log": read_log,
    "azure": read_azure,
}
