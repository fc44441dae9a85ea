"""What ``GET /memory`` says."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from model_server.eviction_counts import EvictionCounts
from model_server.memory.decisions import DecisionLog
from model_server.memory.ledger import RAM
from model_server.memory.plan import Victim
from model_server.memory.policies import POLICIES
from model_server.memory.shadows import Shadows
from model_server.memory_report import memory_report
from model_server.model import State
from model_server.room import Room
from model_server.wire import MemoryInfo

from .test_accounts import MIB, Books, plan, worker


@dataclass
class Ordered:
    """Books and a room that evicts at a word: ``victims`` are those who were told to leave."""

    books: Books = field(default_factory=Books)
    victims: list[str] = field(default_factory=list)
    log: DecisionLog = field(default_factory=DecisionLog)

    def __post_init__(self) -> None:
        self.room = Room(
            self.books.models,
            self.books.accounts,
            POLICIES["lru"],
            wait_seconds=0.1,
            log=self.log,
            counts=EvictionCounts(),
            evict=self.evict,
        )

    def evict(self, victim: Victim) -> None:
        """As evictions begin."""
        model = self.books.models[victim.resident.name]
        self.victims.append(model.name)
        model.move(State.EVICTING)
        model.leaves = tuple(model.resident.held)

    def report(self) -> MemoryInfo:
        """Memory as it stands."""
        books = self.books
        ledgers = books.accounts.ledgers().values()
        return memory_report(books.models.values(), ledgers, self.room, Shadows())


def test_ledgers_and_models_are_told_as_they_stand() -> None:
    made = Ordered()
    model = made.books.add("m", plan(pinned=True), worker(100 * MIB))
    made.books.accounts.settle(model)
    model.resident.reload_seconds = 0.5
    told = made.report()
    (ledger,) = told.ledgers
    assert (ledger.name, ledger.held_bytes, ledger.free_bytes) == (RAM, 100 * MIB, 900 * MIB)
    (entry,) = told.models
    assert (entry.model_name, entry.state, entry.pinned) == ("m", "READY", True)
    assert (entry.held_bytes, entry.reload_seconds) == ({RAM: 100 * MIB}, 0.5)
    assert (entry.uses, entry.idle_seconds) == (0, None)  # it was never used
    assert (told.policy, told.thrashing) == ("lru", False)


def test_a_model_that_has_left_is_told_with_what_it_held_and_is_worth_nothing() -> None:
    made = Ordered()
    model = made.books.add("m", plan(), worker(100 * MIB))
    made.books.accounts.settle(model)
    made.room.uses.used(model, 2, time.monotonic())
    assert made.report().models[0].worth is not None
    model.move(State.EVICTING)
    model.hold({})
    model.move(State.EVICTED)
    (entry,) = made.report().models
    assert (entry.state, entry.held_bytes, entry.worth) == ("EVICTED", {RAM: 100 * MIB}, None)
    assert entry.uses == 2 and entry.uses_per_hour > 0
    assert entry.idle_seconds is not None and entry.idle_seconds >= 0
    assert made.report().ledgers[0].held_bytes == 0


def test_a_use_that_was_counted_when_it_came_is_not_counted_when_it_ends() -> None:
    made = Ordered()
    model = made.books.add("m", plan(), worker(MIB))
    made.room.uses.asked_for(model)
    made.room.uses.used(model, 3, time.monotonic())
    assert model.resident.usage.uses == 3
    made.room.uses.used(model, 1, time.monotonic())
    assert model.resident.usage.uses == 4


def test_what_is_known_of_a_name_is_forgotten_after_very_many_others() -> None:
    made = Ordered()
    model = made.books.add("m", plan(), worker(MIB))
    made.room.uses.used(model, 5, time.monotonic())
    made.room.uses.remember(model)
    for number in range(20_000):
        model.name = f"other-{number}"
        made.room.uses.remember(model)
    again = made.books.add("m", plan(), worker(MIB))
    made.room.uses.recall(again)
    assert again.resident.usage.uses == 0
