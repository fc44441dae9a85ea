"""What was decided about memory, from what, and what came of it: a bounded log one can ask.

The records are plain data, sent and shown as they are; ``wording`` puts them into sentences.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from math import isfinite

import msgspec

from model_server.memory.ledger import Ledger
from model_server.memory.plan import Kept, Move, Need, Plan, Victim
from model_server.memory.resident import Resident

REMEMBERED = 2_000

# Of all decisions together: one plan may send hundreds of models away.
REMEMBERED_CHOICES = 20_000

# Causes that bring a model into memory, and the outcomes with which there was room for it.
STARTS = ("load", "return")
MADE = ("fits", "evict")

_FAILURE_CHARS = 1_000


class Choice(msgspec.Struct, frozen=True, rename="camel"):
    """A model that was looked at: one that left, or one of those that stayed and why.

    ``worth`` is on the policy's own scale and compares only within one decision. ``uses_per_hour``
    is the rate as the policy sees it; ``expected_return_seconds`` follows from it, None when the
    model was never used. ``freed_bytes`` are those that come back in ``ledger``, or would.
    ``uses`` are all that are known of.
    """

    model_name: str
    move: str  # "evict", "park" or "keep"
    reason: str
    ledger: str
    freed_bytes: int
    worth: float | None
    uses_per_hour: float
    reload_seconds: float
    idle_seconds: float | None
    expected_return_seconds: float | None
    uses: int = 0


class Decision(msgspec.Struct, rename="camel"):
    """The plan that settled one want of room. ``at`` is seconds since the epoch; bytes by ledger.

    ``cause`` is why room was wanted: "load", "return", "worker", "growth", "device". ``outcome`` is
    "fits", "evict", "refuse", or "wait": nobody could leave in time. ``waited_seconds`` went by
    until the room was there, or nobody waited any longer. ``victims`` have left only where the
    outcome is "evict". Of a model that has grown, ``grew_bytes`` are what it held before and holds
    now. ``kept`` are some of those that stayed, ``held_back`` counts by reason all that could not
    leave. ``failure`` says why a load failed for which there was room.
    """

    number: int
    at: float
    model_name: str
    cause: str
    policy: str
    need_bytes: dict[str, int]
    free_bytes: dict[str, int]
    outcome: str
    reason: str = ""
    thrashing: bool = False
    waited_seconds: float = 0.0
    victims: list[Choice] = []
    kept: list[Choice] = []
    grew_bytes: dict[str, tuple[int, int]] = {}
    held_back: dict[str, int] = {}
    failure: str = ""


def decision_of(
    plan: Plan,
    need: Need,
    ledgers: Mapping[str, Ledger],
    *,
    cause: str,
    policy: str,
    thrashing: bool,
    at: float,
    now: float,
) -> Decision:
    """The record of a plan as it was made, without a number yet.

    ``at`` is seconds since the epoch, ``now`` the same moment on the clock of the residents.
    """
    return Decision(
        number=0,
        at=at,
        model_name=need.name,
        cause=cause,
        policy=policy,
        need_bytes=dict(need.held),
        free_bytes={name: ledgers[name].free_bytes for name in need.held},
        outcome=plan.outcome.value,
        reason=plan.reason,
        thrashing=thrashing,
        victims=[_left(victim, now) for victim in plan.victims],
        kept=_stayed(plan.kept, need, ledgers, now) if plan.kept else [],
        held_back=dict(plan.held_back),
    )


def _left(victim: Victim, now: float) -> Choice:
    resident = victim.resident
    parked = victim.move is Move.PARK
    return _choice(
        resident,
        now,
        move=victim.move.value,
        ledger=victim.ledger,
        freed_bytes=victim.frees(victim.ledger),
        worth=victim.worth,
        reload_seconds=resident.unpark_seconds if parked else resident.reload_seconds,
    )


def _stayed(
    kept: Sequence[Kept], need: Need, ledgers: Mapping[str, Ledger], now: float
) -> list[Choice]:
    short = [name for name, count in need.held.items() if count > ledgers[name].free_bytes]
    choices = []
    for each in kept:
        held = each.resident.held
        ledger = next((name for name in short if held.get(name)), short[0] if short else "")
        choice = _choice(
            each.resident,
            now,
            move="keep",
            reason=each.reason,
            ledger=ledger,
            freed_bytes=held.get(ledger, 0),
            worth=each.worth,
            reload_seconds=each.resident.reload_seconds,
        )
        choices.append(choice)
    return choices


def _choice(
    resident: Resident,
    now: float,
    *,
    move: str,
    ledger: str,
    freed_bytes: int,
    worth: float,
    reload_seconds: float,
    reason: str = "",
) -> Choice:
    usage = resident.usage
    rate = usage.rate(now)
    return Choice(
        model_name=resident.name,
        move=move,
        reason=reason,
        ledger=ledger,
        freed_bytes=freed_bytes,
        worth=worth if isfinite(worth) else None,
        uses_per_hour=rate * 3600,
        reload_seconds=reload_seconds,
        idle_seconds=max(now - usage.last_used, 0.0) if usage.uses else None,
        expected_return_seconds=1 / rate if rate > 0 else None,
        uses=usage.uses,
    )


class DecisionLog:
    """The last decisions, the newest last."""

    def __init__(
        self, remembered: int = REMEMBERED, remembered_choices: int = REMEMBERED_CHOICES
    ) -> None:
        self._remembered = remembered
        self._remembered_choices = remembered_choices
        self._decisions: deque[Decision] = deque()
        self._choices = 0
        self._numbers = 0

    def _next_number(self) -> int:
        """A number for the next decision, from 1 on."""
        self._numbers += 1
        return self._numbers

    def add(self, decision: Decision) -> None:
        """Remember a decision, with a number if it has none; the oldest ones are forgotten."""
        if not decision.number:
            decision.number = self._next_number()
        self._decisions.append(decision)
        self._choices += _choices(decision)
        while self._is_too_much() and len(self._decisions) > 1:
            self._choices -= _choices(self._decisions.popleft())

    def failed(self, model_name: str, reason: str, began_at: float) -> None:
        """A load or return has failed: its record is to say so, if there had been room for it.

        ``began_at``, in seconds since the epoch, tells it from earlier ones.
        """
        decision = self._start_of(model_name)
        if decision is not None and decision.at >= began_at:
            decision.failure = reason[:_FAILURE_CHARS]

    def waited(self, model_name: str, seconds: float) -> None:
        """The room that was made last for a model is there, so long after it was asked for."""
        decision = self._start_of(model_name)
        if decision is not None:
            decision.waited_seconds = round(seconds, 3)

    def _start_of(self, model_name: str) -> Decision | None:
        """The last load or return of a model, if there was room for it."""
        for decision in reversed(self._decisions):
            if decision.model_name == model_name and decision.cause in STARTS:
                return decision if decision.outcome in MADE else None
        return None

    def not_parked(self, victim: Victim) -> None:
        """The latest record of a model that was to be parked is to say that it was evicted."""
        resident = victim.resident
        for decision in self.about(resident.name, len(self._decisions)):
            for index, choice in enumerate(decision.victims):
                if choice.model_name == resident.name and choice.move == Move.PARK.value:
                    decision.victims[index] = msgspec.structs.replace(
                        choice,
                        move=Move.EVICT.value,
                        reason="could not be parked",
                        freed_bytes=resident.held.get(victim.ledger, 0),
                        reload_seconds=resident.reload_seconds,
                    )
                    return

    def about(self, model_name: str | None, limit: int) -> list[Decision]:
        """The newest first: all, or those made for a model or in which it was chosen or kept."""
        found: Iterator[Decision] = reversed(self._decisions)
        if model_name is not None:
            found = (decision for decision in found if concerns(decision, model_name))
        return list(islice(found, limit))

    def _is_too_much(self) -> bool:
        return len(self._decisions) > self._remembered or self._choices > self._remembered_choices


def _choices(decision: Decision) -> int:
    return len(decision.victims) + len(decision.kept)


def concerns(decision: Decision, model_name: str) -> bool:
    """Whether it was made for this model, or the model was chosen or kept in it."""
    if decision.model_name == model_name:
        return True
    if not decision.victims and not decision.kept:
        return False
    return any(
        choice.model_name == model_name
        for choices in (decision.victims, decision.kept)
        for choice in choices
    )
