"""How a stranger's string is put into a message: names in archives, and those that clients send."""

from __future__ import annotations

_SHOWN_CHARS = 200


def shown(text: str) -> str:
    """A client's string for a message: quoted, and cut when it is very long."""
    cut = text if len(text) <= _SHOWN_CHARS else f"{text[:_SHOWN_CHARS]}…"
    return repr(cut)
