"""Starting a server, which the container does."""

from __future__ import annotations

from typing import Any


def start_model_server(handler_service: str = "", **options: Any) -> None:
    """Raises ``RuntimeError`` that says how a handler service is named here."""
    raise RuntimeError(
        "Modelyard is the model server and runs already. Set SAGEMAKER_HANDLER to the handler "
        f"service ({handler_service or 'module:function'}) and start the container with `serve`."
    )
