"""What keeps a run from being made."""

from __future__ import annotations


class Problem(Exception):
    """Raised when nothing can be sent as asked; the text says why, and what to do."""
