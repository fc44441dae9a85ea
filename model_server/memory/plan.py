"""How to make room for a model: a pure function of need, models, ledgers, policy and time.

For each ledger that is short, models are taken in the policy's order until enough bytes come back;
then those are given up again that turn out not to be needed. A model on a GPU may be parked instead
of evicted: its weights move to RAM, if there is room.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum

from model_server.memory.ledger import RAM, Ledger, shown_bytes
from model_server.memory.policies import Policy
from model_server.memory.resident import Resident
from model_server.memory.usage import Usage

# A model stays for at least this many times what loading it took, so that it is used before it
# makes room for the next.
RESIDENCE_LOADS = 2.0
RESIDENCE_SECONDS = 0.1

# Of those that stay, so many are told of in the explanation.
_KEPT_SHOWN = 5

# While thrashing, a model that was never used before may not push out so many that were.
GUARDED_VICTIMS = 3


class Outcome(Enum):
    """What a plan comes to."""

    FITS = "fits"
    EVICT = "evict"
    WAIT = "wait"  # it would fit if models were idle that are busy now
    REFUSE = "refuse"  # it cannot fit, whoever becomes idle


class Move(Enum):
    """What becomes of a victim."""

    EVICT = "evict"
    PARK = "park"


@dataclass(frozen=True, slots=True)
class Need:
    """Bytes by ledger that a model is about to take. ``usage`` and ``reload_seconds`` are its own.

    ``keeps`` are models that must not leave for it, whatever they are worth: itself, say.
    """

    name: str
    held: Mapping[str, int]
    usage: Usage = field(default_factory=Usage)
    reload_seconds: float = 0.0
    keeps: Collection[str] = ()


@dataclass(frozen=True, slots=True)
class Victim:
    """A model that leaves a ledger, and what it was worth."""

    resident: Resident
    move: Move
    ledger: str
    worth: float

    def frees(self, ledger: str) -> int:
        """Bytes that come back in this ledger; what a parked model takes in RAM counts against."""
        if self.move is Move.EVICT:
            return self.resident.held.get(ledger, 0)
        if ledger == RAM:
            return self.resident.held.get(RAM, 0) - (self.resident.parked_bytes or 0)
        return self.resident.held.get(ledger, 0)


@dataclass(frozen=True, slots=True)
class Kept:
    """A model that stays although it was looked at, and why."""

    resident: Resident
    worth: float
    reason: str


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be done, and what it was chosen from. ``reason`` says why nothing can be done."""

    outcome: Outcome
    victims: Sequence[Victim] = ()
    kept: Sequence[Kept] = ()
    reason: str = ""


def make_plan(
    need: Need,
    residents: Collection[Resident],
    ledgers: Mapping[str, Ledger],
    policy: Policy,
    *,
    now: float,
    thrashing: bool = False,
) -> Plan:
    """How to make room for ``need``. Ledgers that it does not mention are left alone.

    While ``thrashing``, a model that is used for the first time may not push out several that are
    each worth more.
    """
    if all(count <= ledgers[name].free_bytes for name, count in need.held.items()):
        return Plan(Outcome.FITS)
    if reason := _never(need, residents, ledgers, policy):
        return Plan(Outcome.REFUSE, reason=reason)
    plan = _choose(need, residents, ledgers, policy, now=now, may_park=True)
    if plan.outcome is not Outcome.EVICT and any(v.move is Move.PARK for v in plan.victims):
        plan = _choose(need, residents, ledgers, policy, now=now, may_park=False)
    if thrashing and plan.outcome is Outcome.EVICT:
        plan = guarded(need, plan, policy)
    return plan


def _never(
    need: Need,
    residents: Collection[Resident],
    ledgers: Mapping[str, Ledger],
    policy: Policy,
) -> str:
    """Why it cannot fit whoever leaves; empty when it can."""
    for name, count in need.held.items():
        ledger = ledgers[name]
        if count <= ledger.free_bytes:
            continue
        if not policy.evicts:
            return f"{short_of(need, ledger)}, and the policy {policy.name} evicts nothing"
        if count > ledger.models_bytes:
            return (
                f"{_needs(need, ledger)}, more than all models may take there: "
                f"{shown_bytes(ledger.models_bytes)} of the limit of "
                f"{shown_bytes(ledger.limit_bytes)}"
            )
        pinned = [r for r in residents if r.pinned and r.name != need.name and r.held.get(name)]
        pinned_bytes = sum(r.held[name] for r in pinned)
        if count > ledger.models_bytes - pinned_bytes:
            return (
                f"{_needs(need, ledger)}, but {len(pinned)} pinned models hold "
                f"{shown_bytes(pinned_bytes)} of the {shown_bytes(ledger.models_bytes)} "
                "that models may take there"
            )
    return ""


def _choose(
    need: Need,
    residents: Collection[Resident],
    ledgers: Mapping[str, Ledger],
    policy: Policy,
    *,
    now: float,
    may_park: bool,
) -> Plan:
    victims: list[Victim] = []
    kept: list[Kept] = []
    for name in sorted(need.held, key=lambda ledger: ledger == RAM):  # devices first: they may park
        freed = sum(victim.frees(name) for victim in victims)
        short = need.held[name] - ledgers[name].free_bytes - freed
        leaving = {victim.resident.name for victim in victims if victim.move is Move.EVICT}
        queue = _Queue(name, short, now, may_park and name != RAM)
        queue.fill(need, [r for r in residents if r.name not in leaving], policy)
        victims = [v for v in victims if v.resident.name not in queue.names] + queue.victims
        kept += queue.kept
        if queue.freed < short:
            reason = f"{short_of(need, ledgers[name])}; {_why_nobody_leaves(queue.kept)}"
            return Plan(Outcome.WAIT, victims, kept, reason)
    return Plan(Outcome.EVICT, victims, kept)


class _Queue:
    """The models of one ledger, the least worth first, until enough bytes come back."""

    def __init__(self, ledger: str, short: int, now: float, may_park: bool) -> None:
        self.victims: list[Victim] = []
        self.kept: list[Kept] = []
        self.freed = 0
        self._ledger = ledger
        self._short = short
        self._now = now
        self._may_park = may_park

    @property
    def names(self) -> set[str]:
        """Who leaves."""
        return {victim.resident.name for victim in self.victims}

    def fill(self, need: Need, residents: Sequence[Resident], policy: Policy) -> None:
        """Choose the victims."""
        if self._short <= 0:
            return
        ledger = self._ledger
        worths = sorted(
            (policy.keep(resident, ledger, self._cost(resident)), index)
            for index, resident in enumerate(residents)
        )
        for worth, index in worths:
            resident = residents[index]
            if not resident.held.get(ledger) or resident.name == need.name:
                continue
            if self.freed >= self._short:
                if not self._tell(resident, worth, "worth more"):
                    break
            elif reason := held_back(resident, self._now):
                self._tell(resident, worth, reason)
            else:
                self._take(resident, worth)
        self._give_back()

    def _cost(self, resident: Resident) -> float:
        parks = self._may_park and resident.parked_bytes is not None
        return resident.unpark_seconds if parks else resident.reload_seconds

    def _tell(self, resident: Resident, worth: float, reason: str) -> bool:
        if len(self.kept) < _KEPT_SHOWN:
            self.kept.append(Kept(resident, worth, reason))
            return True
        return False

    def _take(self, resident: Resident, worth: float) -> None:
        parks = self._may_park and resident.parked_bytes is not None
        victim = Victim(resident, Move.PARK if parks else Move.EVICT, self._ledger, worth)
        self.victims.append(victim)
        self.freed += victim.frees(self._ledger)

    def _give_back(self) -> None:
        """Spare those, the most worth first, without whom there is enough."""
        for victim in reversed(self.victims[:-1]):
            count = victim.frees(self._ledger)
            if self.freed - count >= self._short:
                self.victims.remove(victim)
                self.freed -= count
                self._tell(victim.resident, victim.worth, "not needed")


def held_back(resident: Resident, now: float) -> str:
    """Why a model may not leave now; empty when it may."""
    if resident.pinned:
        return "pinned"
    age = now - resident.ready_at
    if age < max(RESIDENCE_SECONDS, RESIDENCE_LOADS * resident.reload_seconds):
        return "loaded just now"
    return "busy" if resident.busy() else ""


def guarded(need: Need, plan: Plan, policy: Policy) -> Plan:
    """The plan, unless a newcomer would push out several models that are used again and again."""
    hot = [victim for victim in plan.victims if victim.resident.usage.uses > 1]
    if need.usage.uses > 1 or len(hot) < GUARDED_VICTIMS:
        return plan
    reason = (
        f"it would push out {len(hot)} models that are in use while models already come and go too "
        "often; a second request for it is let in"
    )
    return Plan(Outcome.WAIT, plan.victims, plan.kept, reason)


def short_of(need: Need, ledger: Ledger) -> str:
    """What is needed and what there is, in words."""
    return (
        f"{_needs(need, ledger)}, {shown_bytes(max(ledger.free_bytes, 0))} is free: of the limit "
        f"of {shown_bytes(ledger.limit_bytes)}, models hold {shown_bytes(ledger.held_bytes)} "
        f"and the server {shown_bytes(ledger.overhead_bytes)}"
    )


def _needs(need: Need, ledger: Ledger) -> str:
    where = "" if ledger.name == RAM else f" on {ledger.name}"
    return f"the model needs about {shown_bytes(need.held[ledger.name])}{where}"


def _why_nobody_leaves(kept: Sequence[Kept]) -> str:
    if not kept:
        return "no model holds anything that could be freed"
    reasons = sorted({each.reason for each in kept})
    return "no model can leave now: " + ", ".join(
        f"{sum(each.reason == reason for each in kept)} {reason}" for reason in reasons
    )
