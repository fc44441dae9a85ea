"""Puts plans on record: what was needed, who was chosen or kept, and why."""

from __future__ import annotations

import time
from collections.abc import Mapping
from math import isfinite

from model_server.memory.decisions import Choice, Decision, DecisionLog
from model_server.memory.ledger import Ledger
from model_server.memory.plan import Kept, Need, Plan, Victim
from model_server.memory.policies import Policy
from model_server.memory.resident import Resident


class DecisionRecords:
    """Writes the log of decisions."""

    def __init__(self) -> None:
        self.log = DecisionLog()

    def add(
        self,
        need: Need,
        plan: Plan,
        ledgers: Mapping[str, Ledger],
        policy: Policy,
        *,
        cause: str,
        waited_seconds: float = 0.0,
        thrashing: bool = False,
    ) -> None:
        """Record a plan, made with these ledgers."""
        now = time.monotonic()
        self.log.add(
            Decision(
                number=self.log.next_number(),
                at=time.time(),
                model_name=need.name,
                cause=cause,
                policy=policy.name,
                need_bytes=dict(need.held),
                free_bytes={name: ledgers[name].free_bytes for name in need.held},
                outcome=plan.outcome.value,
                reason=plan.reason,
                thrashing=thrashing,
                waited_seconds=round(waited_seconds, 3),
                victims=[_victim(victim, now) for victim in plan.victims],
                kept=[_kept(kept, now) for kept in plan.kept],
            )
        )


def _victim(victim: Victim, now: float) -> Choice:
    freed = victim.frees(victim.ledger)
    return _choice(victim.resident, victim.move.value, "", victim.ledger, freed, victim.worth, now)


def _kept(kept: Kept, now: float) -> Choice:
    return _choice(kept.resident, "keep", kept.reason, "", 0, kept.worth, now)


def _choice(
    resident: Resident,
    move: str,
    reason: str,
    ledger: str,
    freed_bytes: int,
    worth: float,
    now: float,
) -> Choice:
    rate = resident.usage.rate(now)
    idle = now - resident.usage.last_used
    return Choice(
        model_name=resident.name,
        move=move,
        reason=reason,
        ledger=ledger,
        freed_bytes=freed_bytes,
        worth=worth if isfinite(worth) else None,
        uses_per_hour=rate * 3600,
        reload_seconds=resident.reload_seconds,
        idle_seconds=idle if isfinite(idle) else None,
        expected_return_seconds=1 / rate if rate > 0 else None,
    )
