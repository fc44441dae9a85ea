"""``modelyard deploy`` and ``undeploy``: a multi-model endpoint on SageMaker, made and removed.

command ── options ──► checks ──► image ──► endpoint ──► scaling, alarms
                          every one of them asks and changes AWS through calls

Each step looks what is there and changes only what differs, so the same command goes on where an
earlier one stopped.
"""

from __future__ import annotations

from modelyard.deploy.command import main, undeploy

__all__ = ["main", "undeploy"]
