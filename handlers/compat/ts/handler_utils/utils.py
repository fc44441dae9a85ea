"""Helpers that handlers import."""

from __future__ import annotations

import importlib
from typing import Any


def import_class(class_name: str, module_prefix: str | None = None) -> Any:
    """A class by its dotted name."""
    module, _, name = class_name.rpartition(".")
    path = f"{module_prefix}.{module}" if module_prefix else module
    return getattr(importlib.import_module(path), name)


def send_intermediate_predict_response(
    ret: Any, req_id_map: Any, message: str, code: int, context: Any = None
) -> None:
    """Raises ``RuntimeError``: answers are streamed by generators here."""
    raise RuntimeError(
        "send_intermediate_predict_response is not available here. To stream, let handle return a "
        "list with a generator for each request, and let that yield the parts."
    )
