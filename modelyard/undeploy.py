"""``modelyard undeploy``: what ``modelyard deploy`` has made is removed."""

from __future__ import annotations

from modelyard.deploy import undeploy as main

__all__ = ["main"]
