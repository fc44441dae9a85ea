"""The exception with which a handler chooses the status of its answer."""

from __future__ import annotations

from ts.utils.util import PredictionException

__all__ = ["PredictionException"]
