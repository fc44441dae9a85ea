"""The exceptions of sagemaker-containers."""

from __future__ import annotations

from sagemaker_inference.errors import UnsupportedFormatError

__all__ = ["ClientError", "UnsupportedFormatError"]


class ClientError(Exception):
    """Raised for what the client or the script did wrong."""
