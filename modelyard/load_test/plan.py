"""Which requests are sent, and when: pure, and the same each time for the same seed.

Every sender process goes over the whole plan and sends its part of it, so that nobody has to hand
requests out.
"""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections.abc import Iterator
from itertools import accumulate, repeat
from random import Random
from typing import Final, NamedTuple

import msgspec

# Of the arrays that a plan carries as bytes.
TIMES: Final = "d"
MODELS: Final = "I"


class Planned(NamedTuple):
    """A request: its number from 0, seconds after the start, the model's number.

    ``first`` says that the plan asks for this model for the first time.
    """

    number: int
    at: float
    model: int
    first: bool


class Plan(msgspec.Struct, frozen=True):
    """``models`` is how many there are; the first is the most popular one of a Zipf distribution.

    - Which models: those of ``trace_models`` in its order, else by Zipf with exponent ``zipf``.
    - When: ``rate`` a second with Poisson arrivals, else at ``trace_times``, else one after the
      other (a closed loop; all times are 0).
    - It ends after ``requests``, before ``duration_seconds`` where there are times, and with its
      trace.
    """

    models: int
    seed: int = 0
    zipf: float = 1.0
    rate: float | None = None
    requests: int | None = None
    duration_seconds: float | None = None
    trace_models: bytes = b""
    trace_times: bytes = b""

    @property
    def open_loop(self) -> bool:
        """Whether requests have times of their own."""
        return self.rate is not None or bool(self.trace_times)

    def warm_up(self, count: int) -> Plan:
        """A closed loop over the models of the first requests of this plan."""
        return Plan(
            self.models, self.seed, self.zipf, requests=count, trace_models=self.trace_models
        )

    def planned(self, known: bytearray | None = None) -> Iterator[Planned]:
        """The requests. ``known`` has a byte for each model, not 0 for those asked for before."""
        known = bytearray(self.models) if known is None else known
        for number, (at, model) in enumerate(zip(self._times(), self._models(), strict=False)):
            if number == self.requests:
                return
            if self.duration_seconds is not None and at >= self.duration_seconds:
                return
            yield Planned(number, at, model, not known[model])
            known[model] = 1

    def _times(self) -> Iterator[float]:
        if self.rate is not None:
            dice, rate = Random(f"times {self.seed}"), self.rate
            return accumulate(dice.expovariate(rate) for _ in repeat(None))
        if self.trace_times:
            return iter(memoryview(self.trace_times).cast(TIMES))
        return repeat(0.0)

    def _models(self) -> Iterator[int]:
        if self.trace_models:
            return iter(memoryview(self.trace_models).cast(MODELS))
        return _zipf(self.models, self.zipf, Random(f"models {self.seed}"))


def _zipf(models: int, exponent: float, dice: Random) -> Iterator[int]:
    """Numbers of models; that of rank r comes in proportion to 1 / r ** exponent."""
    bounds = array(TIMES, accumulate(rank**-exponent for rank in range(1, models + 1)))
    last = models - 1
    while True:
        yield min(bisect_right(bounds, dice.random() * bounds[-1]), last)
