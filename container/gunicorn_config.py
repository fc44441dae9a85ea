"""Gunicorn's settings that are the same for every server; the rest is on its command line."""

from __future__ import annotations

# Seconds without a sign of life after which a gateway is replaced.
timeout = 30
# Its default place is under $HOME, which a container may not have or may not write to.
control_socket_disable = True
loglevel = "warning"
proc_name = "modelyard-gateway"
