"""Names for annotations: the context that a handler gets is made by the server."""

from __future__ import annotations

from typing import Any

Context = Any
RequestProcessor = Any
