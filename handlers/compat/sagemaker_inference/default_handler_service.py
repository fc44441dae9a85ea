"""The handler service that delegates to a Transformer; meant to be subclassed."""

from __future__ import annotations

from typing import Any

from sagemaker_inference.transformer import Transformer


class DefaultHandlerService:
    """A custom service whose model is a script with the SageMaker functions."""

    def __init__(self, transformer: Transformer | None = None) -> None:
        self._service = transformer or Transformer()

    def initialize(self, context: Any) -> None:
        """Load the model."""
        model_dir = context.system_properties.get("model_dir")
        self._service.validate_and_initialize(model_dir=model_dir, context=context)

    def handle(self, data: Any, context: Any) -> Any:
        """Answer one batch."""
        return self._service.transform(data, context)
