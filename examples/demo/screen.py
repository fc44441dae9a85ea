"""What the demo shows: headings, progress, a table, text within 80 columns."""

from __future__ import annotations

import sys
import textwrap
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

WIDTH = 80


def heading(text: str) -> None:
    """The start of a step."""
    print(f"\n{text}", flush=True)


def say(text: str) -> None:
    """A paragraph, as wide as the screen."""
    indent = "  "
    print(
        textwrap.fill(
            text, WIDTH, initial_indent=indent, subsequent_indent=indent, break_on_hyphens=False
        ),
        flush=True,
    )


@contextmanager
def progress(text: str) -> Iterator[None]:
    """Say what is being done, and when it is done how long it took."""
    begin = time.perf_counter()
    print(f"  {text} … ", end="", flush=True)
    try:
        yield
    except BaseException:
        print(flush=True)  # what comes next starts a line of its own
        raise
    print(f"{time.perf_counter() - begin:.1f} s", flush=True)


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Columns as wide as they need to be; the ones whose heading ends in a unit are numbers."""
    lines = [head, *rows]
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    numeric = [title.endswith((" ms", " MiB")) for title in head]
    for line in lines:
        cells = zip(line, widths, numeric, strict=True)
        shown = (cell.rjust(width) if right else cell.ljust(width) for cell, width, right in cells)
        print(f"  {'   '.join(shown)}".rstrip(), flush=True)


def fail(text: str, log: Path | None = None, last_lines: Sequence[str] = ()) -> None:
    """Why the demo ends early, and the last that the server had to say."""
    lines = [f"\ndemo: {text}"]
    if last_lines:
        lines += [f"the server's log is {log}; it ends with:", *last_lines]
    print("\n  ".join(lines), file=sys.stderr)
