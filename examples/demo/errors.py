"""What ends the demo early."""

from __future__ import annotations


class DemoError(Exception):
    """Raised when the demo cannot go on; the text is for the user."""
