"""The package's logger. What it is given goes to the server's log."""

from __future__ import annotations

import logging


def configure_logger() -> None:
    """Nothing to do: the server has configured logging."""


def get_logger() -> logging.Logger:
    """The logger."""
    return logging.getLogger("sagemaker-inference")
