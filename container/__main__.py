"""``python -m container`` is ``serve``."""

from __future__ import annotations

from container.entrypoint import serve

serve()
