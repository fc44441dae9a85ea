"""The container's own handler service, which archives derive theirs from."""

from __future__ import annotations

from typing import Any

from sagemaker_inference.default_handler_service import DefaultHandlerService
from sagemaker_inference.transformer import Transformer
from sagemaker_mxnet_serving_container.default_inference_handler import (
    DefaultGluonBlockInferenceHandler,
    DefaultModuleInferenceHandler,
)


class _Either(DefaultGluonBlockInferenceHandler):
    """Asks a Module as Modules are asked, and anything else as a block."""

    def default_predict_fn(self, data: Any, block: Any, context: Any = None) -> Any:
        if hasattr(block, "data_shapes"):
            return DefaultModuleInferenceHandler().default_predict_fn(data, block)
        return super().default_predict_fn(data, block)


class HandlerService(DefaultHandlerService):
    """A script's functions, those left out as the model's kind needs them."""

    def __init__(self) -> None:
        super().__init__(Transformer(_Either()))
