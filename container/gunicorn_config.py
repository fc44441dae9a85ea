"""Gunicorn's settings that are the same for every server; the rest is on its command line."""

from __future__ import annotations

from typing import Any

from gunicorn.glogging import Logger

from model_server import logs


class PlainLogger(Logger):  # type: ignore[misc]  # gunicorn is untyped
    """Gunicorn's own words in the form of all others."""

    log_format = "plain"

    def setup(self, cfg: Any) -> None:
        """Log by the root logger."""
        self.error_log.propagate = True
        logs.configure(cfg.loglevel.upper(), self.log_format)


class JsonLogger(PlainLogger):
    """The same as JSON."""

    log_format = "json"


# Seconds without a sign of life after which a gateway is replaced.
timeout = 30
# Its default place is under $HOME, which a container may not have or may not write to.
control_socket_disable = True
loglevel = "warning"
proc_name = "modelyard-gateway"
