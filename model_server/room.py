"""Makes room for models: plans, has the victims evicted, waits for those that are busy.

What is reserved and who must leave is settled in one step, without an ``await``: two loads cannot
be promised the same bytes. After that a load waits until its victims are really gone.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import NoReturn

from model_server.accounts import Accounts
from model_server.errors import OutOfMemory
from model_server.eviction_counts import EvictionCounts
from model_server.memory.decisions import Decision, DecisionLog, decision_of
from model_server.memory.ledger import ADVICE, RAM, Ledger
from model_server.memory.plan import Move, Need, Outcome, Plan, Victim, make_plan, short_of
from model_server.memory.policies import Policy
from model_server.memory.resident import Resident
from model_server.memory.thrash import Churn
from model_server.model import Model, State
from model_server.uses import Uses

# Nobody tells when a busy model becomes idle.
_LOOK_SECONDS = 0.02

# A device that ran out of memory while it computed gets this share of itself freed, at least.
_DEVICE_SHARE = 0.05

# A lack of room that nobody asked about is recorded this often.
_TELL_SECONDS = 1.0

Grew = Mapping[str, tuple[int, int]]
Evict = Callable[[Victim], None]


class Room:
    """Who may load, and who must leave for it.

    ``evict(victim)`` begins an eviction and returns at once; ``changed`` is to be called
    whenever memory may have come back.
    """

    def __init__(
        self,
        models: Mapping[str, Model],
        accounts: Accounts,
        policy: Policy,
        *,
        wait_seconds: float,
        log: DecisionLog,
        counts: EvictionCounts,
        evict: Evict,
    ) -> None:
        self.policy = policy
        self.churn = Churn()
        self.uses = Uses()
        self._models = models
        self._accounts = accounts
        self._wait_seconds = wait_seconds
        self._log = log
        self._counts = counts
        self._evict = evict
        self._change: asyncio.Future[None] | None = None
        self._turn = asyncio.Lock()
        self._told_at = 0.0

    # --- room -----------------------------------------------------------------------------------

    async def take(
        self, model: Model, need: Mapping[str, int], cause: str, began: float | None = None
    ) -> None:
        """Reserve memory for a model that is to load, and return when it is there.

        Raises OutOfMemory with the reason when it cannot be had in time. ``cause`` is for the
        record: "load" or "return", ``began`` since when it waits, if it has waited before.
        """
        if cause == "load" and not model.counted_ahead:
            self.uses.count_ahead(model)
        began = time.monotonic() if began is None else began
        plan = self._try(model, need, cause, 0.0)
        while plan.outcome is Outcome.WAIT and not self._is_over(began):
            plan = await self._next_try(model, need, cause, began) or plan
            if model.is_leaving:  # nobody wants it any more
                return
        waited = time.monotonic() - began
        if plan.outcome in (Outcome.WAIT, Outcome.REFUSE):
            self._waited(waited)
            self._refuse(self._wants(model, need), plan, cause, waited)
        await self._vacant(model)
        waited = time.monotonic() - began
        self._waited(waited)
        self._log.waited(model.name, waited)

    def load_failed(self, model: Model, reason: str, asked_at: float) -> None:
        """Put on record that a load for which there was room has failed all the same."""
        self._log.failed(model.name, reason, asked_at)

    def _waited(self, seconds: float) -> None:
        if seconds > _LOOK_SECONDS:
            self._counts.waited(seconds)

    def check(self, model: Model, need: Mapping[str, int], cause: str) -> None:
        """Raise OutOfMemory when a model would not fit even if everybody left who can."""
        wants = self._wants(model, need)
        plan, _ = self._plan(wants)
        if plan.outcome is Outcome.REFUSE:
            self._refuse(wants, plan, cause, 0.0)

    def admit_worker(self, model: Model) -> None:
        """Reserve memory for one more worker. Raises OutOfMemory when there is not enough free.

        Nobody leaves for it: its model answers without it.
        """
        more = self._accounts.worker_need(model)
        ledgers = self._accounts.ledgers()
        wants = Need(model.name, more, model.resident.usage)
        for name in _short(wants, ledgers, occupied=True):
            reason = f"{short_of(wants, ledgers[name])}; nobody leaves for a further process"
            self._refuse(wants, Plan(Outcome.REFUSE, reason=reason), "worker", 0.0)
        held = model.resident.held
        model.hold({name: held.get(name, 0) + count for name, count in more.items()})

    async def make_fit(self, model: Model) -> None:
        """Have others leave for what a model took beyond its prediction; wait for the busy ones.

        Raises OutOfMemory when that was in vain.
        """
        began = time.monotonic()
        while (over := self._accounts.check(model)) and not self.relieve(model.name):
            if self._is_over(began) or not self.policy.evicts:
                raise OutOfMemory(f"when the model was loaded, {over}. {ADVICE}")
            await self._changes()
            if model.is_leaving:  # nobody wants it any more
                return

    def relieve(self, name: str, more_bytes: int = 0, grew: Grew | None = None) -> bool:
        """Have models leave for one that has grown, until its ledgers are within their limits.

        ``more_bytes`` of RAM are in use beyond what the ledger knows; ``grew`` is for the record:
        what it held before and holds now, by ledger. Returns whether that will be
        enough, those who are leaving already included.
        """
        ledgers = self._accounts.ledgers()
        need = {ledger: 0 for ledger in self._models[name].resident.held if ledger in ledgers}
        return self._free(Need(name, {**need, RAM: more_bytes}), "growth", grew)

    async def free_device(self, model: Model) -> list[str]:
        """Free some of a model's GPU for a request that found it full; who leaves for it.

        Waits, within bounds, while others on the GPU are busy. Raises OutOfMemory when nobody can
        leave.
        """
        began = time.monotonic()
        while not self._free(Need(model.name, need := self._device_need(model)), "device"):
            if self._is_over(began) or not self._has_company(model):
                raise OutOfMemory("the device's memory is full, and no other model can leave it")
            await self._changes()
        return [
            other.name
            for other in self._models.values()
            if other.state is State.EVICTING and not need.keys().isdisjoint(other.leaves)
        ]

    def _device_need(self, model: Model) -> dict[str, int]:
        """How much should be free on its GPU: a share of that, or of what it holds itself.

        What leaves already and is nobody's yet counts: it may leave for another such request.
        """
        ledgers, reserved = self._accounts.ledgers(), self._reserved(model)
        held = {
            name: count
            for name, count in model.resident.held.items()
            if name != RAM and name in ledgers
        }
        if not held:
            raise OutOfMemory("the device's memory is full, and it is not the server's to free")
        return {
            name: max(ledgers[name].free_bytes, 0)
            + _share(ledgers[name], count, reserved.get(name, 0))
            for name, count in held.items()
        }

    def _has_company(self, model: Model) -> bool:
        """Whether another model holds memory of its GPU."""
        return self.policy.evicts and any(
            other.gpu == model.gpu and other.state is State.READY
            for other in self._models.values()
            if other is not model
        )

    def changed(self) -> None:
        """Let those who wait look again."""
        if self._change is not None and not self._change.done():
            self._change.set_result(None)

    # --- how ------------------------------------------------------------------------------------

    def _try(self, model: Model, need: Mapping[str, int], cause: str, waited: float) -> Plan:
        """Plan, and if that works, reserve and begin to evict: in one step."""
        asked = self._wants(model, need)
        plan, ledgers = self._plan(asked)
        if plan.outcome in (Outcome.FITS, Outcome.EVICT):
            model.hold({**model.resident.held, **need})
            model.reserved = True
            self._carry_out(asked, plan, ledgers, cause, waited)
        return plan

    def _wants(self, model: Model, need: Mapping[str, int]) -> Need:
        """What must be free for a load: its need, and its zygote if that is to be started."""
        resident = model.resident
        wanted = {
            name: max(count - resident.held.get(name, 0), 0)  # a parked model holds some of it
            for name, count in need.items()
            if self._accounts.has_ledger(name)
        }
        if RAM in need:  # it starts processes
            wanted[RAM] += self._accounts.zygote_bytes(model)
        return Need(model.name, wanted, resident.usage, resident.reload_seconds)

    async def _next_try(
        self, model: Model, need: Mapping[str, int], cause: str, began: float
    ) -> Plan | None:
        """Try again when it is this one's turn; None when the time was over before.

        One after another: a crowd that waits must not spend the server's time on plans.
        """
        left = self._wait_seconds - (time.monotonic() - began)
        try:
            await asyncio.wait_for(self._turn.acquire(), max(left, 0.0))
        except TimeoutError:
            return None
        try:
            await self._changes()
            if model.is_leaving:
                return None
            return self._try(model, need, cause, time.monotonic() - began)
        finally:
            self._turn.release()

    def _free(self, need: Need, cause: str, grew: Grew | None = None) -> bool:
        plan, ledgers = self._plan(need)
        if plan.outcome is Outcome.FITS:
            return True
        if plan.outcome is Outcome.EVICT:
            decision = self._carry_out(need, plan, ledgers, cause, 0.0)
            decision.grew_bytes = dict(grew or {})
            return True
        if time.monotonic() - self._told_at > _TELL_SECONDS:
            self._told_at = time.monotonic()
            self._record(need, plan, ledgers, cause, 0.0).grew_bytes = dict(grew or {})
            self._counts.refused(cause)
        return False

    def _plan(self, need: Need) -> tuple[Plan, Mapping[str, Ledger]]:
        ledgers = self._accounts.ledgers()
        now = time.monotonic()
        plan = make_plan(
            need,
            self._residents() if any(_short(need, ledgers)) else (),
            ledgers,
            self.policy,
            now=now,
            thrashing=self.churn.thrashing(now),
        )
        return plan, ledgers

    def _residents(self) -> list[Resident]:
        return [
            model.resident
            for model in self._models.values()
            if model.state in (State.READY, State.PARKED)
        ]

    def _carry_out(
        self, need: Need, plan: Plan, ledgers: Mapping[str, Ledger], cause: str, waited: float
    ) -> Decision:
        decision = self._record(need, plan, ledgers, cause, waited)
        for victim in plan.victims:
            if victim.move is Move.EVICT:
                self._count(victim, victim.frees(victim.ledger))
            self._evict(victim)
        return decision

    def parked(self, victim: Victim, freed_bytes: int) -> None:
        """A victim has been parked as planned, and so much of its ledger is free."""
        self._count(victim, freed_bytes)

    def not_parked(self, victim: Victim) -> None:
        """A victim that was to be parked could not, and is evicted instead."""
        instead = replace(victim, move=Move.EVICT)
        self._log.not_parked(instead)
        self._count(instead, instead.frees(instead.ledger))

    def _count(self, victim: Victim, freed_bytes: int) -> None:
        self._counts.evicted(self.policy.name, victim.move.value, victim.ledger, freed_bytes)

    def _refuse(self, need: Need, plan: Plan, cause: str, waited: float) -> NoReturn:
        self._record(need, plan, self._accounts.ledgers(), cause, waited)
        self._counts.refused(cause)
        after = f" It waited {waited:.1f} s." if plan.outcome is Outcome.WAIT else ""
        raise OutOfMemory(f"{plan.reason}.{after} {ADVICE}")

    def _record(
        self, need: Need, plan: Plan, ledgers: Mapping[str, Ledger], cause: str, waited: float
    ) -> Decision:
        now = time.monotonic()
        decision = decision_of(
            plan,
            need,
            ledgers,
            cause=cause,
            policy=self.policy.name,
            thrashing=self.churn.thrashing(now),
            at=time.time(),
            now=now,
        )
        decision.waited_seconds = round(waited, 3)
        self._log.add(decision)
        return decision

    def _is_over(self, began: float) -> bool:
        return time.monotonic() - began >= self._wait_seconds

    async def _vacant(self, model: Model) -> None:
        """Wait until what the model has reserved is not occupied by those who leave any more."""
        while model.reserved and not model.is_leaving:
            if self._is_vacant(model):
                model.reserved = False
                return
            await self._changes()

    def _is_vacant(self, model: Model) -> bool:
        reserved, ledgers = self._reserved(model), self._accounts.ledgers()
        return all(
            ledgers[name].free_bytes + reserved.get(name, 0) >= ledgers[name].leaving_bytes
            for name in model.resident.held
            if name in ledgers and ledgers[name].leaving_bytes
        )

    def _reserved(self, model: Model) -> dict[str, int]:
        """What others have reserved and not begun to take, by ledger."""
        reserved: dict[str, int] = {}
        for other in self._models.values():
            if other.reserved and other is not model:
                for name, count in other.resident.held.items():
                    reserved[name] = reserved.get(name, 0) + count
        return reserved

    async def _changes(self) -> None:
        if self._change is None or self._change.done():
            self._change = asyncio.get_running_loop().create_future()
        await asyncio.wait([self._change], timeout=_LOOK_SECONDS)


def _share(ledger: Ledger, held_bytes: int, reserved_bytes: int) -> int:
    """What is to be freed of a device, beyond what leaves it for nobody who has reserved it."""
    share = max(int(ledger.limit_bytes * _DEVICE_SHARE), held_bytes // 10)
    return max(share - max(ledger.leaving_bytes - reserved_bytes, 0), 0)


def _short(need: Need, ledgers: Mapping[str, Ledger], *, occupied: bool = False) -> list[str]:
    """The ledgers that are short; with ``occupied`` what leaves does not count as free yet."""
    return [
        name
        for name, count in need.held.items()
        if count > ledgers[name].free_bytes - (ledgers[name].leaving_bytes if occupied else 0)
    ]
