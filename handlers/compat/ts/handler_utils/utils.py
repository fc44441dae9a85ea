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
    """Put parts in front of the answers. The client gets them with the rest, not before.

    To send them at once, let handle return a generator for each request.
    """
    for idx in req_id_map:
        context.send_before(idx, ret[idx])
