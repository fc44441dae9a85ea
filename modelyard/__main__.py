"""``python -m modelyard`` is ``modelyard``."""

from __future__ import annotations

from modelyard.cli import main

main()
