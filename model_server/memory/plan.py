"""How to make room for a model: a pure function of need, models, ledgers, policy and time.

For each ledger that is short, models are taken in the policy's order until enough bytes come back;
then those are spared again that turn out not to be needed. A model on a GPU may be parked instead
of evicted: its weights move to RAM, if there is room.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from itertools import repeat

from model_server.memory.ledger import RAM, Ledger, shown_bytes
from model_server.memory.policies import Policy
from model_server.memory.resident import Resident
from model_server.memory.usage import Usage

# A model that was not used yet since it was loaded stays for this many times what loading it took.
RESIDENCE_LOADS = 2.0
RESIDENCE_SECONDS = 0.1

# Of those that stay, so many are told of in the explanation.
_KEPT_SHOWN = 5

# While thrashing, a model that was never used before may not push out so many that are hot.
GUARDED_VICTIMS = 3

# Of more models than this, only the least worth are sorted at first.
_SORTED_AT_ONCE = 500


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
    """Bytes by ledger that a model is about to take, and what is known of it."""

    name: str
    held: Mapping[str, int]
    usage: Usage = field(default_factory=Usage)
    reload_seconds: float = 0.0


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
        return max(self.resident.held.get(ledger, 0) - self.resident.parked_device_bytes, 0)


@dataclass(frozen=True, slots=True)
class Kept:
    """A model that stays although it was looked at, and why."""

    resident: Resident
    worth: float
    reason: str


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be done, and what it was chosen from. ``reason`` says why nothing can be done.

    ``kept`` are only some of them; ``held_back`` counts, by reason, all that could not leave.
    """

    outcome: Outcome
    victims: Sequence[Victim] = ()
    kept: Sequence[Kept] = ()
    reason: str = ""
    held_back: Mapping[str, int] = field(default_factory=dict)


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
    used again and again.
    """
    if all(count <= ledgers[name].free_bytes for name, count in need.held.items()):
        return Plan(Outcome.FITS)
    if reason := _never(need, ledgers, policy):
        return Plan(Outcome.REFUSE, reason=reason)
    plan = _Choice(need, residents, ledgers, policy, now, may_park=True).plan()
    if plan.outcome is not Outcome.EVICT and any(v.move is Move.PARK for v in plan.victims):
        plan = _Choice(need, residents, ledgers, policy, now, may_park=False).plan()
    if plan.outcome is Outcome.WAIT and (reason := _pinned(need, residents, ledgers)):
        return Plan(Outcome.REFUSE, kept=plan.kept, reason=reason)
    if thrashing and plan.outcome is Outcome.EVICT:
        plan = guarded(need, plan, now)
    return plan


def _never(need: Need, ledgers: Mapping[str, Ledger], policy: Policy) -> str:
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
    return ""


def _pinned(need: Need, residents: Collection[Resident], ledgers: Mapping[str, Ledger]) -> str:
    """Why it cannot fit as long as the pinned models stay; empty when it can."""
    for name, count in need.held.items():
        ledger = ledgers[name]
        pinned = [r for r in residents if r.pinned and r.name != need.name and r.held.get(name)]
        pinned_bytes = sum(r.held[name] for r in pinned)
        if count > max(ledger.free_bytes, ledger.models_bytes - pinned_bytes):
            return (
                f"{_needs(need, ledger)}, but {len(pinned)} pinned models hold "
                f"{shown_bytes(pinned_bytes)} of the {shown_bytes(ledger.models_bytes)} "
                "that models may take there"
            )
    return ""


class _Choice:
    """Whom to take, ledger by ledger."""

    def __init__(
        self,
        need: Need,
        residents: Collection[Resident],
        ledgers: Mapping[str, Ledger],
        policy: Policy,
        now: float,
        *,
        may_park: bool,
    ) -> None:
        self._need = need
        self._residents = residents
        self._ledgers = ledgers
        self._policy = policy
        self._now = now
        self._may_park = may_park
        self._stay = need.name
        self._victims: dict[str, Victim] = {}
        self._kept: list[Kept] = []
        self._held_back: Counter[str] = Counter()

    def plan(self) -> Plan:
        """Victims that are enough in every ledger, or why there are none."""
        for name in sorted(self._need.held, key=lambda ledger: ledger == RAM):
            if reason := self._fill(name):
                return self._waiting(reason)
        if RAM not in self._need.held and (reason := self._fill(RAM)):
            return self._waiting(reason)
        self._spare()
        return Plan(Outcome.EVICT, tuple(self._victims.values()), self._kept)

    def _waiting(self, reason: str) -> Plan:
        victims = tuple(self._victims.values())
        return Plan(Outcome.WAIT, victims, self._kept, reason, self._held_back)

    def _missing(self, name: str) -> int:
        """Bytes that are still missing in a ledger; below 0 when there are more than enough."""
        freed = sum(victim.frees(name) for victim in self._victims.values())
        if name in self._need.held:
            return self._need.held[name] - self._ledgers[name].free_bytes - freed
        return -freed - max(self._ledgers[name].free_bytes, 0)  # only parking takes any

    def _fill(self, name: str) -> str:
        """Take models until a ledger is no longer short; why there are not enough, or nothing."""
        short = self._missing(name)
        if short <= 0:
            return ""
        held_back_by: Counter[str] = Counter()
        for worth, resident in self._least_worth_first(name):
            if short <= 0:
                reason = held_back(resident, self._now) or "worth more"
                if not self._tell(resident, worth, reason):
                    break
            elif reason := held_back(resident, self._now):
                held_back_by[reason] += 1
                self._tell(resident, worth, reason)
            else:
                short -= self._take(resident, name, worth)
        if short <= 0:
            return ""
        self._held_back = held_back_by
        return self._unfilled(name, held_back_by)

    def _unfilled(self, name: str, held_back_by: Counter[str]) -> str:
        if name not in self._need.held:
            return "there is no room in RAM for what would be parked"
        why = ", ".join(f"{count} {reason}" for reason, count in sorted(held_back_by.items()))
        found = f"no model can leave now: {why}" if why else "no model holds enough to be freed"
        return f"{short_of(self._need, self._ledgers[name])}; {found}"

    def _least_worth_first(self, name: str) -> Iterator[tuple[float, Resident]]:
        found = list(self._residents)
        costs = [r.reload_seconds for r in found]
        if name != RAM and self._may_park:
            costs = [
                r.reload_seconds if r.parked_bytes is None else r.unpark_seconds for r in found
            ]
        worths = list(map(self._policy.keep, found, repeat(name), costs, repeat(self._now)))
        for index in _ascending(worths):
            resident = found[index]
            before = self._victims.get(resident.name)
            gone = before is not None and before.move is Move.EVICT
            if resident.held.get(name, 0) > 0 and not gone and resident.name != self._stay:
                yield worths[index], resident

    def _take(self, resident: Resident, name: str, worth: float) -> int:
        parks = name != RAM and self._may_park and resident.parked_bytes is not None
        before = self._victims.get(resident.name)
        victim = Victim(resident, Move.PARK if parks else Move.EVICT, name, worth)
        self._victims[resident.name] = victim
        return victim.frees(name) - (before.frees(name) if before else 0)

    def _spare(self) -> None:
        """Spare those, the most worth first, without whom there is enough in every ledger."""
        missing = {name: self._missing(name) for name in {*self._need.held, RAM}}
        again = len(self._victims) > 1
        while again:
            again = False
            for victim in sorted(self._victims.values(), key=lambda v: v.worth, reverse=True):
                frees = {name: victim.frees(name) for name in missing}
                if any(missing[name] + frees[name] > 0 for name in missing):
                    continue
                del self._victims[victim.resident.name]
                self._tell(victim.resident, victim.worth, "not needed")
                for name, count in frees.items():
                    missing[name] += count
                    again = again or count < 0  # parked no longer, it leaves room for others

    def _tell(self, resident: Resident, worth: float, reason: str) -> bool:
        if len(self._kept) < _KEPT_SHOWN:
            self._kept.append(Kept(resident, worth, reason))
            return True
        return False


def _ascending(worths: Sequence[float]) -> Iterator[int]:
    """The indexes, the least first, sorted no further than is asked for."""
    if len(worths) <= _SORTED_AT_ONCE:
        yield from sorted(range(len(worths)), key=worths.__getitem__)
        return
    cut = sorted(worths[::50])[2]
    few = [index for index, worth in enumerate(worths) if worth <= cut]
    yield from sorted(few, key=worths.__getitem__)
    rest = [index for index, worth in enumerate(worths) if worth > cut]
    yield from sorted(rest, key=worths.__getitem__)


def held_back(resident: Resident, now: float) -> str:
    """Why a model may not leave now; empty when it may."""
    if resident.pinned:
        return "pinned"
    if resident.busy():
        return "busy"
    if resident.usage.last_used < resident.ready_at:
        age = now - resident.ready_at
        if age < max(RESIDENCE_SECONDS, RESIDENCE_LOADS * resident.reload_seconds):
            return "loaded just now"
    return ""


def guarded(need: Need, plan: Plan, now: float) -> Plan:
    """The plan, unless a newcomer would push out several models that are used again and again."""
    hot = sum(victim.resident.usage.is_hot(now) for victim in plan.victims)
    if need.usage.uses != 1 or hot < GUARDED_VICTIMS:
        return plan
    reason = (
        f"it would push out {hot} models that are in use while models already come and go too "
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
