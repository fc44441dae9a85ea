"""``modelyard status``: what an endpoint has loaded where, in the terminal.

command ── source ──► the document of GET /status ── picture ──► drawing ──► the terminal
"""

from __future__ import annotations

from modelyard.status.command import main

__all__ = ["main"]
