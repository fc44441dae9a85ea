"""Looks again and again, and goes on when the endpoint was away."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress

from rich.console import Group, RenderableType
from rich.live import Live
from rich.text import Text

from modelyard.address import NoEndpoint
from modelyard.say import say
from modelyard.status.looks import Looks
from modelyard.status.source import Document, NoAnswer, Refused, Source
from modelyard.status.words import plain

Show = Callable[[Document, Document | None, str], None]


def watch(find: Callable[[], Source], looks: Looks, seconds: float) -> None:
    """Until Ctrl-C. Raises NoEndpoint and NoAnswer where there is nothing from the start.

    ``find`` is asked again when the endpoint does not answer: it may have come back elsewhere.
    """
    source = find()
    document = source.look()
    with suppress(KeyboardInterrupt):
        if looks.json or not looks.console.is_terminal:
            _again(source, find, document, seconds, _lines(looks))
            return
        with Live(console=looks.console, screen=True, auto_refresh=False) as live:
            _again(source, find, document, seconds, _screen(looks, live, seconds))


def _again(
    source: Source, find: Callable[[], Source], document: Document, seconds: float, show: Show
) -> None:
    before: Document | None = None
    show(document, None, "")
    while True:
        time.sleep(seconds)
        try:
            found = source.look()
        except Refused:
            raise
        except NoAnswer as error:
            before = None
            show(document, None, plain(str(error)))
            with suppress(NoEndpoint):
                source = find()
        else:
            before, document = document, found
            show(document, before, "")


def _lines(looks: Looks) -> Show:
    """One look after another, for a file or another program."""

    def show(document: Document, before: Document | None, trouble: str) -> None:
        trouble = trouble or looks.missing(document)
        if trouble:
            say(f"modelyard status: {trouble}; looking again")
            return
        looks.print(document, before)
        if not looks.json:
            looks.console.print()

    return show


def _screen(looks: Looks, live: Live, seconds: float) -> Show:
    """One look in the place of the other."""

    def show(document: Document, before: Document | None, trouble: str) -> None:
        live.update(Group(*parts(document, before, trouble)), refresh=True)

    def parts(
        document: Document, before: Document | None, trouble: str
    ) -> tuple[RenderableType, ...]:
        clock = time.strftime("%H:%M:%S", time.localtime(document.get("time")))
        if not trouble and (missing := looks.missing(document)):
            return (Text(f"{clock}  {missing}", "red"),)
        words = f"{clock}  every {seconds:g} s, Ctrl-C ends"
        head = Text(words, "dim")
        if trouble:
            head = Text(f"as of {clock}; {trouble}; looking again", "red")
        height = looks.console.height - len(looks.console.render_lines(head)) - 1
        return head, Text(), looks.fitted(document, before, height)

    return show
