"""What ``GET /memory`` shows: ledgers, models, and what other policies would have cost."""

from __future__ import annotations

import time
from collections.abc import Iterable
from math import isfinite

from model_server import wire
from model_server.memory.ledger import RAM, Ledger
from model_server.memory.policies import Policy
from model_server.memory.shadows import Shadows
from model_server.model import Model
from model_server.room import Room


def memory_report(
    models: Iterable[Model], ledgers: Iterable[Ledger], room: Room, shadows: Shadows
) -> wire.MemoryInfo:
    """Memory as it stands."""
    now = time.monotonic()
    return wire.MemoryInfo(
        policy=room.policy.name,
        thrashing=room.churn.thrashing(now),
        ledgers=[_ledger(ledger) for ledger in ledgers],
        models=[_model(model, room.policy, now) for model in models],
        shadows=[
            wire.ShadowInfo(each.policy, each.hits, each.misses, each.reload_seconds)
            for each in shadows.totals()
        ],
    )


def _ledger(ledger: Ledger) -> wire.LedgerInfo:
    return wire.LedgerInfo(
        ledger.name,
        ledger.limit_bytes,
        ledger.overhead_bytes,
        ledger.held_bytes,
        ledger.leaving_bytes,
        ledger.free_bytes,
    )


def _model(model: Model, policy: Policy, now: float) -> wire.ModelMemory:
    resident = model.resident
    usage, held = resident.usage, resident.held
    idle = now - usage.last_used
    scarce = next((name for name in held if name != RAM), RAM)
    worth = policy.keep(resident, scarce, resident.reload_seconds, now) if held else None
    return wire.ModelMemory(
        model_name=model.name,
        state=model.state.value,
        framework=model.plan.framework,
        pinned=resident.pinned,
        held_bytes=dict(held) or model.last_held,
        reload_seconds=resident.reload_seconds,
        uses=usage.uses - model.counted_ahead,
        uses_per_hour=usage.rate(now) * 3600,
        idle_seconds=idle if isfinite(idle) else None,
        worth=worth if worth is not None and isfinite(worth) else None,
        evictions=model.evictions,
        busy=resident.busy(),
    )
