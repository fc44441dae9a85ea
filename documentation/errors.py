"""The tables of errors, from the classes that are raised: status, name, and when."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import groupby
from typing import Any

from archives.errors import DiskFull
from documentation.tables import code, table
from endpoint.errors import ApiError
from handlers.errors import HandlerError, ParkingFailed
from model_server.errors import ProblemError, ServerError, problem_of

# They carry what another process has said, or never reach a client.
_NOT_TOLD = (ProblemError, ParkingFailed)

Row = tuple[int, str, str]


def of_container() -> str:
    """What the container answers: ``code`` and ``type`` of its JSON."""
    classes = [*_below(ServerError), *_below(HandlerError)]
    rows = [(each.status, each.kind, _when(each)) for each in classes if each not in _NOT_TOLD]
    full = problem_of(DiskFull(""))
    rows.append((full.status, full.kind, _when(DiskFull)))
    return _table(("code", "type", "when"), rows)


def of_endpoint() -> str:
    """What the endpoint answers: status and the code that boto3 shows."""
    rows = [(each.status, each.code, _when(each)) for each in _below(ApiError)]
    return _table(("status", "error", "when"), rows)


def _table(head: tuple[str, str, str], rows: list[Row]) -> str:
    """One line for each status and name: several classes may share them."""
    lines = []
    for (status, name), group in groupby(sorted(rows), key=lambda row: row[:2]):
        lines.append((str(status), code(name), "; ".join(dict.fromkeys(row[2] for row in group))))
    return table(head, lines)


def _below(kind: type[Any]) -> Iterator[type[Any]]:
    for each in kind.__subclasses__():
        if not each.__module__.startswith("tests"):
            yield each
            yield from _below(each)


def _when(kind: type[Any]) -> str:
    """The first sentence of its docstring, without "Raised"."""
    sentence = re.split(r"\.(?:\s|$)", kind.__doc__ or "")[0]
    text = " ".join(sentence.split()).replace("``", "`")
    assert text.startswith("Raised "), f"the docstring of {kind.__name__} does not say when"
    return text.removeprefix("Raised ")
