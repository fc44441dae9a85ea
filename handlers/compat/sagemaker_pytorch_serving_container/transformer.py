"""The container's own Transformer."""

from __future__ import annotations

from sagemaker_inference.transformer import Transformer


class PyTorchTransformer(Transformer):
    """Does what its base does."""
