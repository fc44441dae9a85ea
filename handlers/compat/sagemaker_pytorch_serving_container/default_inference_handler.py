"""The older name of the handler's module."""

from __future__ import annotations

from sagemaker_pytorch_serving_container.default_pytorch_inference_handler import (
    DefaultPytorchInferenceHandler,
)

__all__ = ["DefaultPytorchInferenceHandler"]
