"""Runs a model's ``code/inference.py``, the SageMaker functions, under multi-model-server.

A module-level ``handle`` and not a class, because multi-model-server swallows what a class raises
while a model is loaded and answers 200.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from sagemaker_inference.transformer import Transformer

transformer = Transformer()


def handle(data: list[dict[str, Any]] | None, context: Any) -> Any:
    """Load the model when there is no data, as multi-model-server asks; else answer requests."""
    if data is not None:
        return transformer.transform(data, context)
    model_dir = context.system_properties["model_dir"]
    sys.path.insert(0, str(Path(model_dir, "code")))
    transformer.validate_and_initialize(model_dir=model_dir, context=context)
    return None
