"""In which order models leave."""

from __future__ import annotations

from math import inf

from model_server.memory.ledger import RAM
from model_server.memory.policies import POLICIES, CostAware, Lru, Platform
from model_server.memory.resident import Resident
from model_server.memory.usage import Usage

NOW = 1000.0


def resident(
    size: int = 100, seconds: float = 1.0, every: float = 10.0, idle: float = 0.0
) -> Resident:
    usage = Usage()
    for step in range(10, -1, -1):
        usage.used(NOW - idle - step * every)
    return Resident("m", {RAM: size}, seconds, usage)


def worth(found: Resident) -> float:
    return CostAware().keep(found, RAM, found.reload_seconds, NOW)


def test_cost_aware_lets_the_large_the_cheap_and_the_seldom_used_leave_first() -> None:
    assert worth(resident(size=200)) == worth(resident()) - 1
    assert worth(resident(seconds=4.0)) == worth(resident()) + 1
    assert worth(resident(every=20)) == worth(resident()) - 1
    assert worth(resident(idle=50)) < worth(resident())


def test_cost_aware_has_an_answer_for_what_was_never_used_and_what_frees_nothing() -> None:
    assert worth(Resident("m", {RAM: 100}, 1.0)) == -inf
    assert worth(Resident("m", {RAM: 0}, 1.0, resident().usage)) == inf
    assert worth(Resident("m", {"gpu0": 5}, 1.0, resident().usage)) == inf
    assert worth(resident(seconds=0.0)) < worth(resident())


def test_lru_goes_by_the_last_use_alone() -> None:
    old, new = resident(size=1, seconds=99, idle=5), resident(size=10**9, seconds=0.1)
    assert Lru().keep(old, RAM, 99, NOW) < Lru().keep(new, RAM, 0.1, NOW)
    assert Lru().keep(Resident("m", {RAM: 1}, 1.0, ready_at=7.0), RAM, 1.0, NOW) == 7.0


def test_platform_lets_nobody_leave_and_every_policy_has_its_name() -> None:
    assert not Platform().evicts
    assert Platform().keep(resident(), RAM, 1.0, NOW) == inf
    assert {name: policy.name for name, policy in POLICIES.items()} == {
        name: name for name in ("cost_aware", "lru", "platform")
    }
