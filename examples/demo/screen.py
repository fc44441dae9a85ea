"""What the demo shows: headings, progress, text within 80 columns, and lines that change."""

from __future__ import annotations

import os
import shutil
import sys
import textwrap
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

WIDTH = 80
INDENT = "  "


def heading(text: str) -> None:
    """The start of a step."""
    print(f"\n{_bold(text)}", flush=True)


def say(text: str) -> None:
    """A paragraph, as wide as the screen."""
    wrapped = textwrap.fill(
        text, WIDTH, initial_indent=INDENT, subsequent_indent=INDENT, break_on_hyphens=False
    )
    print(wrapped, flush=True)


def code(text: str) -> None:
    """Lines as they are, to be pasted."""
    print(textwrap.indent(text.strip("\n"), 2 * INDENT), flush=True)


@contextmanager
def progress(text: str) -> Iterator[None]:
    """Say what is being done, and when it is done how long it took."""
    begin = time.perf_counter()
    print(f"{INDENT}{text} … ", end="", flush=True)
    try:
        yield
    except BaseException:
        print(flush=True)  # what comes next starts a line of its own
        raise
    print(f"{time.perf_counter() - begin:.1f} s", flush=True)


class Live:
    """Lines that are shown again and again: in place on a terminal, else seldom, one after another.

    ``seldom_seconds`` is the time between them where nothing can be shown in place.
    """

    def __init__(self, seldom_seconds: float) -> None:
        self._seldom_seconds = seldom_seconds
        self._shown_at = time.monotonic()
        self._height = 0

    def show(self, lines: Sequence[str], *, last: bool = False) -> None:
        """Show them, in place of those before; the ``last`` ones in any case."""
        in_place = _is_terminal()
        if not (in_place or last or time.monotonic() - self._shown_at > self._seldom_seconds):
            return
        self._shown_at = time.monotonic()
        up = f"\x1b[{self._height}A\x1b[J" if in_place and self._height else ""
        gap = "" if in_place else "\n"
        print(up + gap + "\n".join(_cut(INDENT + line) for line in lines), flush=True)
        self._height = len(lines)


def fail(text: str, log: Path | None = None, last_lines: Sequence[str] = ()) -> None:
    """Why the demo ends early, and the last that the endpoint had to say."""
    lines = [f"\ndemo: {text}"]
    if last_lines:
        lines += [f"the endpoint's log is {log}; it ends with:", *last_lines]
    print("\n  ".join(lines), file=sys.stderr)


def _cut(line: str) -> str:
    width = min(WIDTH, shutil.get_terminal_size().columns) if _is_terminal() else WIDTH
    return line if len(line) <= width else f"{line[: width - 1]}…"


def _bold(text: str) -> str:
    return f"\x1b[1m{text}\x1b[0m" if _is_terminal() else text


def _is_terminal() -> bool:
    return sys.stdout.isatty() and os.environ.get("TERM", "dumb") != "dumb"
