"""A document as it is printed: for people, or as JSON."""

from __future__ import annotations

import io
import sys
from collections.abc import Iterator

import msgspec
from rich.console import Console, RenderableType

from modelyard.status import drawing, picture
from modelyard.status.drawing import Room
from modelyard.status.source import Document
from modelyard.status.words import plain

_LINES = 5
_REASON_LINES = 3

# Lengths of lists that are tried where all is to fit into a screen.
_LENGTHS = (30, 20, 15, 10, 8, 6, 5, 4, 3, 2, 1, 0)

# Of what goes into a file or to another program.
_FILE_WIDTH = 100


class Looks:
    """Shows documents as they were asked for."""

    def __init__(
        self, endpoint: str | None, *, json: bool, models: int | None, events: int | None
    ) -> None:
        """``endpoint`` None is all; so many ``models`` and ``events``, None is what fits."""
        self.json = json
        self.console = _console()
        self._endpoint = endpoint
        self._models = models
        self._events = events

    def missing(self, document: Document) -> str:
        """Why the endpoint cannot be shown; "" when it can."""
        names = picture.names(document)
        if self._endpoint is None or self._endpoint in names:
            return ""
        there = f"there are {', '.join(map(plain, names))}" if names else "there is none"
        return f"there is no endpoint {plain(self._endpoint)}: {there}"

    def print(self, document: Document, before: Document | None = None) -> None:
        """To standard output; rates are since the document ``before``."""
        if self.json:
            print(self._line(document), flush=True)  # noqa: T201
        elif self.console.is_terminal:
            self.console.print(self.drawn(document, before))
        else:
            with self.console.capture() as lines:
                self.console.print(self.drawn(document, before))
            for line in lines.get().splitlines():
                print(line.rstrip(), flush=True)  # noqa: T201

    def drawn(self, document: Document, before: Document | None) -> RenderableType:
        """For people."""
        return self._drawn(document, before, _LINES, _REASON_LINES)

    def fitted(self, document: Document, before: Document | None, height: int) -> RenderableType:
        """The same, with lists as long as there are lines for."""
        for drawn in self._lengths(document, before):
            if len(self.console.render_lines(drawn)) <= height:
                break
        return drawn

    def _lengths(self, document: Document, before: Document | None) -> Iterator[RenderableType]:
        return (self._drawn(document, before, length, 1) for length in _LENGTHS)

    def _drawn(
        self, document: Document, before: Document | None, length: int, reasons: int
    ) -> RenderableType:
        room = Room(
            width=self.console.width,
            models=length if self._models is None else self._models,
            events=length if self._events is None else self._events,
            reasons=reasons,
        )
        found = picture.endpoints(document, self._endpoint, before)
        return drawing.drawn(found, document.get("time", 0.0), room)

    def _line(self, document: Document) -> str:
        """As JSON, with that endpoint alone."""
        name = self._endpoint
        if name is not None:
            kept = [one for one in document["endpoints"] if one["name"] == name]
            events = [one for one in document.get("events", ()) if one.get("endpoint") == name]
            document = {**document, "endpoints": kept, "events": events}
        return msgspec.json.encode(document).decode()


def _console() -> Console:
    """As wide as the terminal, and with its colours unless NO_COLOR is set."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # names may have letters that it does not
    width = None if sys.stdout.isatty() else _FILE_WIDTH
    return Console(width=width, highlight=False, markup=False, emoji=False)
