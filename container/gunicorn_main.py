"""Gunicorn, tied to the controller's life before it does anything else.

``python -P -m container.gunicorn_main LIFELINE_FD GUNICORN_OPTIONS…``
"""

from __future__ import annotations

import sys

from model_server.processes import lifeline


def main() -> None:
    """Arm, then be gunicorn."""
    lifeline.arm(int(sys.argv.pop(1)))
    from gunicorn.app.wsgiapp import run

    run(prog="gunicorn")


if __name__ == "__main__":
    main()
