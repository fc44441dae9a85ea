"""A cache with a clock that is handed in: the server's policies, plans and guard, without models.

``modelyard replay`` runs it over traces, ``shadows`` over the live traffic.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import NamedTuple

from model_server.memory.ledger import RAM, Ledger
from model_server.memory.plan import Need, Outcome, make_plan
from model_server.memory.policies import Policy
from model_server.memory.resident import Resident
from model_server.memory.thrash import Churn
from model_server.memory.usage import Usage

# As many models that are not in memory are remembered as the server remembers.
REMEMBERED = 20_000


class Access(NamedTuple):
    """What came of a use. ``seconds`` is how long it waited for the model.

    ``refused`` uses found no room: each is charged the seconds of a load that is thrown away.
    """

    hit: bool
    seconds: float = 0.0
    evicted: Sequence[str] = ()
    refused: bool = False


_HIT = Access(True)


class Cache:
    """Models in so many bytes of memory. The clock stands still while a model loads."""

    def __init__(self, policy: Policy, limit_bytes: int) -> None:
        self.policy = policy
        self.limit_bytes = limit_bytes
        self.held_bytes = 0
        self.hits = 0
        self.misses = 0
        self.refused = 0
        self.reload_seconds = 0.0
        self._residents: dict[str, Resident] = {}
        self._away: OrderedDict[str, tuple[Usage | None, float | None]] = OrderedDict()
        self._churn = Churn()

    def use(
        self, name: str, size_bytes: int, reload_seconds: float, now: float, times: int = 1
    ) -> Access:
        """Use a model so many times; it is loaded when it is not there, if there is room.

        ``now`` must not go back.
        """
        resident = self._residents.get(name)
        if resident is None:
            self.hits += times - 1
            return self._miss(name, size_bytes, reload_seconds, now, times)
        self.hits += times
        resident.usage.used(now, times)
        if resident.held[RAM] != size_bytes:
            self.held_bytes += size_bytes - resident.held[RAM]
            resident.held = {RAM: size_bytes}
        return _HIT

    def __contains__(self, name: object) -> bool:
        return name in self._residents

    def forget(self, name: str) -> None:
        """A model is gone for good, with all that was known of it."""
        resident = self._residents.pop(name, None)
        if resident is not None:
            self.held_bytes -= resident.held[RAM]
        self._away.pop(name, None)

    def _miss(
        self, name: str, size_bytes: int, reload_seconds: float, now: float, times: int
    ) -> Access:
        self.misses += 1
        self.reload_seconds += reload_seconds
        usage, evicted_at = self._away.pop(name, (None, None))
        usage = usage or Usage()
        usage.used(now, times)
        evicted = self._make_room(Need(name, {RAM: size_bytes}, usage, reload_seconds), now)
        if evicted is None:
            self.refused += 1
            self._remember(name, usage, evicted_at)
            return Access(False, reload_seconds, refused=True)
        self._churn.loaded(now, reload_seconds, evicted_at)
        self._residents[name] = Resident(name, {RAM: size_bytes}, reload_seconds, usage, now)
        self.held_bytes += size_bytes
        return Access(False, reload_seconds, evicted)

    def _make_room(self, need: Need, now: float) -> Sequence[str] | None:
        """Who was evicted; None when there is no room."""
        if need.held[RAM] <= self.limit_bytes - self.held_bytes:
            return ()
        ledgers = {RAM: Ledger(RAM, self.limit_bytes, 0, self.held_bytes)}
        thrashing = self._churn.thrashing(now)
        residents = self._residents.values()
        plan = make_plan(need, residents, ledgers, self.policy, now=now, thrashing=thrashing)
        if plan.outcome is not Outcome.EVICT:
            return None
        for victim in plan.victims:
            resident = self._residents.pop(victim.resident.name)
            self.held_bytes -= resident.held[RAM]
            self._remember(resident.name, resident.usage, now)
        return [victim.resident.name for victim in plan.victims]

    def _remember(self, name: str, usage: Usage, evicted_at: float | None) -> None:
        self._away[name] = (usage, evicted_at)
        while len(self._away) > REMEMBERED:
            self._away.popitem(last=False)
