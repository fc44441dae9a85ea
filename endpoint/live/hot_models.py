"""Copies of hot models: one more where many requests run at once, one less when they are over."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from endpoint.events import Record
from endpoint.instances.instance import Instance
from endpoint.routing.copies import (
    Change,
    Copies,
    CopyRules,
    copy_to_withdraw,
    place_for_copy,
)
from endpoint.routing.places import Where
from endpoint.settings import EndpointSettings

log = logging.getLogger("modelyard.endpoint")

_TICK_SECONDS = 1.0

# Of the mean of requests that run at once: a model below it is as good as unused.
_NEGLIGIBLE = 0.01


class HotModels:
    """Counts the requests of one variant's models and has copies made and withdrawn."""

    def __init__(
        self,
        settings: EndpointSettings,
        record: Record,
        serving: Callable[[], list[Instance]],
    ) -> None:
        self._rules = CopyRules(settings.spill_requests, settings.copy_idle_seconds)
        self._record = record
        self._serving = serving
        self._retry_seconds = settings.failed_load_seconds
        self._copies: dict[str, Copies] = {}
        # From how many copies on one more was tried, and until when that is not tried again.
        self._tried: dict[str, tuple[int, float]] = {}

    @contextmanager
    def counting(self, target: str) -> Iterator[None]:
        """A request for a model runs."""
        loop = asyncio.get_running_loop()
        now = loop.time()
        copies = self._of(target, now)
        demand = copies.demand
        demand.started(now)
        if demand.running > self._rules.spill_requests:  # less is left to the next look at all
            self._balance(target, copies, now)
        try:
            yield
        finally:
            demand.finished(loop.time())

    async def run(self) -> None:
        """Look at all of them once a second, for ever: those without requests cool down."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(_TICK_SECONDS)
            try:
                self._look(loop.time())
            except Exception:
                log.exception("copies of models cannot be looked at")

    def _look(self, now: float) -> None:
        """At those that have copies or are hot. Costs as much as there are models in memory."""
        held = self._held()
        for target in [target for target, count in held.items() if count > 1]:
            self._of(target, now)  # copies may be there without a request, after a restart
        for target, copies in list(self._copies.items()):
            mean = copies.demand.mean(now)
            if held[target] > 1 or mean > self._rules.spill_requests:
                self._balance(target, copies, now)
            elif copies.demand.running == 0 and mean < _NEGLIGIBLE:
                del self._copies[target]
                self._tried.pop(target, None)

    def _of(self, target: str, now: float) -> Copies:
        copies = self._copies.get(target)
        if copies is None:
            copies = self._copies[target] = Copies(self._rules, now)
        return copies

    def _held(self) -> Counter[str]:
        """On how many instances each model is in memory, or on its way in or out."""
        held: Counter[str] = Counter()
        for instance in self._serving():
            if instance.models is not None:
                held.update({resident.target for resident in instance.models.residents()})
        return held

    def _balance(self, target: str, copies: Copies, now: float) -> None:
        """Make or withdraw a copy if that is due."""
        instances = self._serving()
        wheres = [instance.where(target) for instance in instances]
        count = sum(where <= Where.LOADING for where in wheres)
        change = copies.decide(now, copies=count, starting=Where.LOADING in wheres)
        if change is Change.ADD and len(instances) > count:
            if self._may_add(target, count, now) and self._add(target, instances):
                self._tried[target] = count, now + self._retry_seconds
        elif change is Change.WITHDRAW:
            self._tried.pop(target, None)
            self._withdraw(target, instances)

    def _may_add(self, target: str, count: int, now: float) -> bool:
        """Not if the last copy did not come to be, perhaps since it cannot be loaded there."""
        tried, until = self._tried.get(target, (-1, 0.0))
        return count != tried or now >= until

    def _add(self, target: str, instances: list[Instance]) -> bool:
        """Whether there is a place for one more."""
        chosen = place_for_copy([one.place(target) for one in instances], key=target)
        for instance in instances:
            if instance.spec.id == chosen and instance.models is not None:
                self._record("spill", target, text=f"a copy on {chosen}")
                instance.models.warm(target)
                return True
        return False

    def _withdraw(self, target: str, instances: list[Instance]) -> None:
        chosen = copy_to_withdraw([one.place(target) for one in instances], key=target)
        for instance in instances:
            if instance.spec.id == chosen and instance.models is not None:
                instance.models.withdraw(target, "fewer copies are enough")
