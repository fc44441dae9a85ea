"""The exception with which a handler chooses the status of its answer."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

logger = logging.getLogger(__name__)


class PredictionException(Exception):
    """Raised by a handler: the client gets ``message`` with the status ``error_code``."""

    def __init__(self, message: str, error_code: int = 500) -> None:
        super().__init__(message)
        self.message = message
        self.error_code = error_code

    def __str__(self) -> str:
        return f"{self.message} : {self.error_code}"


def emit_metrics(metrics: Mapping[str, Any] | None) -> None:
    """Write metrics to the log."""
    for metric in metrics or ():
        logger.info("[METRICS]%s", metric)
