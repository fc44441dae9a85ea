"""The container's own handler service, which archives derive theirs from."""

from __future__ import annotations

from sagemaker_inference.default_handler_service import DefaultHandlerService
from sagemaker_pytorch_serving_container.default_pytorch_inference_handler import (
    DefaultPytorchInferenceHandler,
)
from sagemaker_pytorch_serving_container.transformer import PyTorchTransformer


class HandlerService(DefaultHandlerService):
    """A script's functions, those left out by ``DefaultPytorchInferenceHandler``."""

    def __init__(self) -> None:
        super().__init__(PyTorchTransformer(DefaultPytorchInferenceHandler()))
