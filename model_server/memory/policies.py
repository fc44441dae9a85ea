"""Who leaves first when memory is short. To change that, add a policy here and name it below."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf, log2
from typing import Protocol

from model_server.memory.ledger import MIB
from model_server.memory.resident import Resident

# How much reload seconds count against bytes and use; docs/concepts/memory.md shows how it was
# chosen.
COST_EXPONENT = 0.5

_SHORTEST_SECONDS = 0.001
_PER_HOUR_AND_MIB = 3600.0 * MIB


class Policy(Protocol):
    """An order in which models leave a ledger."""

    @property
    def name(self) -> str:
        """What settings and metrics call it."""

    @property
    def evicts(self) -> bool:
        """Whether anything is evicted at all."""

    def keep(self, resident: Resident, ledger: str, cost_seconds: float, now: float) -> float:
        """How much it is worth to keep the model in this ledger: the least leaves first.

        ``cost_seconds`` is what bringing it back would take. The scale is the policy's own.
        """
        ...


@dataclass(frozen=True, slots=True)
class CostAware:
    """Reload seconds^alpha / (bytes x time until the next use): the seconds saved by each byte."""

    name: str = "cost_aware"
    evicts: bool = True
    exponent: float = COST_EXPONENT

    def keep(self, resident: Resident, ledger: str, cost_seconds: float, now: float) -> float:
        """The logarithm to base 2 of that, by MiB and hour."""
        cost = cost_seconds if cost_seconds > _SHORTEST_SECONDS else _SHORTEST_SECONDS
        wait = resident.usage.expected_return(now)
        try:
            return log2(cost**self.exponent * _PER_HOUR_AND_MIB / (resident.held[ledger] * wait))
        except ValueError:  # never used
            return -inf
        except (KeyError, ZeroDivisionError):  # nothing there to be freed
            return inf


@dataclass(frozen=True, slots=True)
class Lru:
    """The longest unused leaves first, whatever it weighs and costs."""

    name: str = "lru"
    evicts: bool = True

    def keep(self, resident: Resident, ledger: str, cost_seconds: float, now: float) -> float:
        """When it was used last, or became ready."""
        return max(resident.usage.last_used, resident.ready_at)


@dataclass(frozen=True, slots=True)
class Platform:
    """Nobody leaves: what does not fit is refused, and the platform unloads as it likes."""

    name: str = "platform"
    evicts: bool = False

    def keep(self, resident: Resident, ledger: str, cost_seconds: float, now: float) -> float:
        """Worth any price."""
        return inf


POLICIES: dict[str, Policy] = {policy.name: policy for policy in (CostAware(), Lru(), Platform())}
