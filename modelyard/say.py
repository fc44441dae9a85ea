"""What commands tell people. Imports nothing: commands that only ask an endpoint start quickly."""

from __future__ import annotations

import sys


def say(text: str) -> None:
    """Tell the user; standard output is for programs and for the shell."""
    print(text, file=sys.stderr, flush=True)  # noqa: T201
