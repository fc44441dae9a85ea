"""Real servers, as the contract suite starts them."""

from __future__ import annotations

from ..contract.conftest import base_url, endpoint_of, models_dir, serve, threads
from ..model_server.conftest import yard

__all__ = ["base_url", "endpoint_of", "models_dir", "serve", "threads", "yard"]
