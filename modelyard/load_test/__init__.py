"""``modelyard load-test``: traffic against an endpoint, ours or AWS's, and a report of how it went.

command ── options, targets, bodies ──► wire.Job ──► senders ══ pipes ══► sender (a process each)
   ▲                                                    │                   plan, requester
   └── summary, page ◄── figures ◄── tally ◄────────────┘
"""

from __future__ import annotations

from modelyard.load_test.command import main

__all__ = ["main"]
