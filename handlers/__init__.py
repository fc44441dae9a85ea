"""What model authors see: how a model directory becomes something that answers requests.

Importable alone, in a notebook or a test: nothing in here starts a process, opens a socket or
reads the environment. ``inspect_model`` says what lies in a directory without importing a
framework; ``load_service`` loads it and returns a ``Service``.
"""

from __future__ import annotations
