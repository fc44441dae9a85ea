"""What handlers import of TorchServe, where it is not installed: its common parts."""

from __future__ import annotations

__version__ = "0.12.0"  # the last there was; some handlers compare it
