"""The older place of a helper."""

from __future__ import annotations

from ts.handler_utils.utils import send_intermediate_predict_response

__all__ = ["send_intermediate_predict_response"]
