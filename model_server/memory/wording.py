"""Decisions about memory in sentences: what became of a model, for whom, and why. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from math import inf, isfinite

from model_server.memory.decisions import MADE, Choice, Decision
from model_server.memory.ledger import shown_bytes
from model_server.memory.phrases import (
    Times,
    joined,
    named,
    not_zero,
    one_line,
    shown_seconds,
    shown_sizes,
    shown_uses,
)

_BEGUN = {
    "load": "loaded",
    "return": "brought back",
    "worker": "given another process",
}
_NO_ROOM = {
    "load": "refused (507)",
    "return": "not brought back (507)",
    "worker": "not given another process",
}
_WHY_KEPT = {
    "pinned": "it is pinned",
    "busy": "it was busy",
    "loaded just now": "it had been loaded just before",
    "not needed": "enough was freed without it",
}
_WORTH_MORE = "worth more"

# Shorter waits than this are not worth a word.
_TOLD_WAIT_SECONDS = 0.05


def told(decision: Decision, model_name: str, times: Times) -> str:
    """What a decision meant for one model: for whom it was made, or who left or was kept in it."""
    if decision.model_name == model_name:
        return _own(decision, times)
    for victim in decision.victims:
        if victim.model_name == model_name:
            return _left(decision, victim, times)
    for kept in decision.kept:
        if kept.model_name == model_name:
            return _kept(decision, kept, times)
    return f"not concerned by the decision for {named(decision.model_name)}"


# --- the model that needed room -------------------------------------------------------------------


def _own(decision: Decision, times: Times) -> str:
    at = times.told(decision.at)
    if decision.cause == "growth":
        return f"{_grew(decision, at)}: {_consequence(decision)}"
    if decision.cause == "device":
        where = joined(list(decision.need_bytes)) or "its device"
        return f"out of memory on {where} during a request at {at}: {_consequence(decision)}"
    if decision.failure:
        failed = f"{decision.cause} failed, begun at {at}{_after_wait(decision)}"
        return f"{failed}: {one_line(decision.failure)}; {_room_made(decision)}"
    if decision.outcome in MADE:
        begun = _BEGUN.get(decision.cause, decision.cause)
        return f"{begun} at {at}{_after_wait(decision)}: {_room_made(decision)}"
    refused = _NO_ROOM.get(decision.cause, f"{decision.cause} refused")
    return f"{refused} at {at}{_after_wait(decision)}: {decision.reason}"


def _room_made(decision: Decision) -> str:
    need = not_zero(decision.need_bytes)
    free = {name: max(decision.free_bytes.get(name, 0), 0) for name in need}
    made = f", so {_departures(decision.victims)}" if decision.victims else ""
    return f"about {shown_sizes(need)} needed, {shown_sizes(free)} free{made}"


def _after_wait(decision: Decision) -> str:
    if decision.waited_seconds < _TOLD_WAIT_SECONDS:
        return ""
    waited = f" after waiting {shown_seconds(decision.waited_seconds)}"
    if decision.outcome in MADE:
        return f"{waited} for room"
    whom = _held_back(decision)
    return f"{waited} for {whom}" if whom else f"{waited} for room"


def _held_back(decision: Decision) -> str:
    """Who could not leave and why; of each reason how many more there were."""
    reasons = dict.fromkeys(each.reason for each in decision.kept if each.reason != _WORTH_MORE)
    parts = []
    for reason in reasons:
        names = [named(each.model_name) for each in decision.kept if each.reason == reason]
        parts.append(f"{joined(names, decision.held_back.get(reason, 0))} ({reason})")
    return joined(parts)


def _grew(decision: Decision, at: str) -> str:
    """By how much it grew; where only the kernel saw it, for what the others had to leave."""
    grown = {name: pair for name, pair in decision.grew_bytes.items() if pair[0] != pair[1]}
    over = {name: -count for name, count in decision.free_bytes.items() if count < 0}
    limit = f", {shown_sizes(over)} over the limit" if over else ""
    if grown:
        before = shown_sizes({name: pair[0] for name, pair in grown.items()})
        after = shown_sizes({name: pair[1] for name, pair in grown.items()})
        return f"grew from {before} to {after} at {at}{limit}"
    if over:
        return f"grew at {at}{limit}"
    beyond = shown_sizes(not_zero(decision.need_bytes))
    had = "had to leave" if decision.outcome == "evict" else "should have left"
    return f"others {had} at {at} for {beyond} in use beyond what was counted"


def _consequence(decision: Decision) -> str:
    """What came of a want that is not a load."""
    if decision.outcome == "fits":
        return "there was room"
    if decision.outcome == "evict":
        return _departures(decision.victims)
    held_back = _held_back(decision)
    if decision.outcome == "refuse" and decision.reason:
        return decision.reason
    return f"nobody could leave: {held_back}" if held_back else "nobody could leave"


def _departures(victims: Sequence[Choice]) -> str:
    """Who was evicted and who was parked, the largest first."""
    parts = []
    for move, verb in (("evict", "evicted"), ("park", "parked")):
        gone = sorted(
            (victim for victim in victims if victim.move == move),
            key=lambda victim: -victim.freed_bytes,
        )
        if gone:
            names = [f"{named(each.model_name)} ({shown_bytes(each.freed_bytes)})" for each in gone]
            parts.append(f"{joined(names)} {'were' if len(gone) > 1 else 'was'} {verb}")
    return " and ".join(parts)


# --- a model that left, or was about to -----------------------------------------------------------


def _left(decision: Decision, victim: Choice, times: Times) -> str:
    at, whom = times.told(decision.at), named(decision.model_name)
    if decision.outcome != "evict":
        return f"spared at {at}: {whom} was refused: {decision.reason}"
    freed = shown_sizes({victim.ledger: victim.freed_bytes})
    parked = victim.move == "park"
    verb, back = ("parked", "return") if parked else ("evicted", "reload")
    weights = ", weights kept in RAM" if parked else ""
    if not parked and victim.reason:  # "could not be parked"
        weights = f", {victim.reason}"
    return (
        f"{verb} at {at} for {whom}{_whose(decision)}: {freed} freed{weights}, "
        f"{_expected(victim)}, {back} {shown_seconds(victim.reload_seconds)}"
        f"{_others_kept(decision, victim)}"
    )


def _whose(decision: Decision) -> str:
    """What is to be said of the model that it left for."""
    if decision.failure:
        return f", whose {'return' if decision.cause == 'return' else 'load'} failed"
    return ", which grew" if decision.cause == "growth" else ""


def _expected(victim: Choice) -> str:
    if victim.expected_return_seconds is None:
        return "never used"
    if victim.uses == 1:
        return shown_uses(victim.uses, victim.uses_per_hour, victim.idle_seconds)
    return f"expected return in {shown_seconds(victim.expected_return_seconds)}"


def _others_kept(decision: Decision, victim: Choice) -> str:
    """One that was worth more, and one that could not leave."""
    worth_more = [each for each in decision.kept if each.reason == _WORTH_MORE][:1]
    held_back = [each for each in decision.kept if each.reason != _WORTH_MORE][:1]
    clauses = [
        f"kept {named(each.model_name)} because {_why(decision, each, victim)}"
        for each in worth_more + held_back
    ]
    return "".join(f"; {clause}" for clause in clauses)


# --- a model that stayed --------------------------------------------------------------------------


def _kept(decision: Decision, kept: Choice, times: Times) -> str:
    at, whom = times.told(decision.at), named(decision.model_name)
    need = f"needed {shown_sizes(not_zero(decision.need_bytes))}"
    if decision.cause == "growth":
        need = "grew"
    if decision.outcome != "evict":
        return f"kept at {at} when {whom} {need} and found no room: {_why(decision, kept, None)}"
    beside = [victim for victim in decision.victims if victim.ledger == kept.ledger]
    closest = max(beside or decision.victims, key=_worth, default=None)
    gone = _departures(decision.victims)
    return f"kept at {at} when {whom} {need} and {gone}: {_why(decision, kept, closest)}"


def _why(decision: Decision, kept: Choice, victim: Choice | None) -> str:
    if kept.reason != _WORTH_MORE:
        return _WHY_KEPT.get(kept.reason, kept.reason)
    if victim is None:
        return "it was worth more"
    against = named(victim.model_name)
    if decision.policy == "lru":
        return f"it was used later ({_idle(kept)}, {against} {_idle(victim)})"
    terms = f"({_terms(kept)}; {against} {_terms(victim)})"
    if decision.policy != "cost_aware":
        return f"it was ranked higher by {decision.policy} {terms}"
    if kept.worth is None:  # nothing to compare: never used, or nothing of it there to be freed
        return f"enough was freed without it {terms}"
    return f"it was worth {_ratio(kept, victim)} {terms}"


def _worth(choice: Choice) -> float:
    return -inf if choice.worth is None else choice.worth


def _ratio(kept: Choice, victim: Choice) -> str:
    """``worth`` is the logarithm of what each MiB saves, to base 2."""
    assert kept.worth is not None
    if victim.worth is None or kept.worth < victim.worth:
        return "more"  # which no number tells: never used, or in another ledger
    difference = kept.worth - victim.worth
    if not isfinite(difference) or difference > 10:
        return "far more per MiB"
    if difference < 0.07:
        return "slightly more per MiB"
    times = 2.0**difference
    return f"{times:.{0 if times >= 9.95 else 1}f} times as much per MiB"


def _terms(choice: Choice) -> str:
    where = {choice.ledger: choice.freed_bytes}
    size = f", {shown_sizes(where)}" if choice.freed_bytes > 0 else ""
    uses = shown_uses(choice.uses, choice.uses_per_hour, choice.idle_seconds)
    return f"{uses}, reload {shown_seconds(choice.reload_seconds)}{size}"


def _idle(choice: Choice) -> str:
    if choice.idle_seconds is None:
        return "never used"
    return f"{shown_seconds(choice.idle_seconds)} before"
