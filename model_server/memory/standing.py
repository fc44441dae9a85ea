"""What is known of a model's place in memory now, in one sentence. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from math import inf

from model_server import wire
from model_server.memory.decisions import MADE, STARTS, Decision
from model_server.memory.ledger import RAM
from model_server.memory.phrases import (
    Times,
    not_zero,
    shown_rate,
    shown_seconds,
    shown_sizes,
)

_STATES = {
    "READY": "in memory",
    "LOADING": "loading",
    "RESTARTING": "in memory, its process restarting",
    "FAILED": "failed",
    "EVICTING": "leaving memory",
    "EVICTED": "evicted",
    "PARKED": "parked",
    "UNLOADING": "unloading",
}
_AWAY = ("EVICTED", "PARKED")
_IN_MEMORY = ("READY", "RESTARTING")


def standing(model: wire.ModelMemory, info: wire.MemoryInfo, told: str = "") -> str:
    """State, size, use, reload and rank of one model; ``told`` is from ``since``."""
    state = _STATES.get(model.state, model.state.lower())
    size = shown_sizes(not_zero(model.held_bytes))
    held = f"held {size}" if model.state == "EVICTED" else size
    parts = [
        f"{state}{told}",
        held,
        f"reload {shown_seconds(model.reload_seconds)}",
        _use(model),
        "pinned" if model.pinned else "",
        _evictions(model),
        _rank(model, info),
        "its next request brings it back" if model.state in _AWAY else "",
    ]
    return ", ".join(filter(None, parts))


def since(model: wire.ModelMemory, decisions: Sequence[Decision], times: Times) -> str:
    """Since when it is there, or when it left, as far as the decisions, the newest first, tell."""
    if model.state in _IN_MEMORY:
        word, is_it = "since", _brought
    elif model.state in _AWAY:
        word, is_it = "at", _sent_away
    else:
        return ""
    moments = [each.at for each in decisions if is_it(each, model.model_name)]
    return f" {word} {times.told(moments[0])}" if moments else ""


def _brought(decision: Decision, model_name: str) -> bool:
    return (
        decision.model_name == model_name
        and decision.cause in STARTS
        and decision.outcome in MADE
        and not decision.failure
    )


def _sent_away(decision: Decision, model_name: str) -> bool:
    return decision.outcome == "evict" and any(
        victim.model_name == model_name for victim in decision.victims
    )


def _use(model: wire.ModelMemory) -> str:
    if not model.uses or model.idle_seconds is None:
        return "never used"
    last = shown_seconds(model.idle_seconds)
    if model.uses == 1:  # no rate follows from that
        return f"used once, {last} ago"
    return f"used {model.uses:,} times, last {last} ago, {shown_rate(model.uses_per_hour)}"


def _evictions(model: wire.ModelMemory) -> str:
    """How often it left. Models in RAM alone are never parked; of others only the last is known."""
    count = model.evictions
    if not count:
        return ""
    left = "evicted" if list(model.held_bytes) == [RAM] else "left memory"
    if count == 1:
        left = {"PARKED": "parked", "EVICTED": "evicted"}.get(model.state, left)
    return f"{left} once" if count == 1 else f"{left} {count:,} times"


def _rank(model: wire.ModelMemory, info: wire.MemoryInfo) -> str:
    """How many models would leave before it; a number that needs no scale."""
    own = _worth(model, info)
    if own is None or model.pinned or model.busy:
        return ""
    found = [_worth(each, info) for each in info.models if not (each.pinned or each.busy)]
    worths = [worth for worth in found if worth is not None]
    less = sum(worth < own for worth in worths)
    if not less:
        return "worth least of all: first to leave when memory is short"
    return f"worth more than {less:,} of the {len(worths):,} models that may leave"


def _worth(model: wire.ModelMemory, info: wire.MemoryInfo) -> float | None:
    """None where there is none to compare; a model that was never used is worth nothing."""
    if model.worth is None and model.state == "READY" and not model.uses:
        return -inf if info.policy == "cost_aware" else None
    return model.worth
