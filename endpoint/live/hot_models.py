"""Copies of hot models: one more where many requests run at once, one less when they are over."""

from __future__ import annotations

import asyncio
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
        self._copies: dict[str, Copies] = {}

    @contextmanager
    def counting(self, target: str) -> Iterator[None]:
        """A request for a model runs."""
        loop = asyncio.get_running_loop()
        copies = self._copies.get(target)
        if copies is None:
            copies = self._copies[target] = Copies(self._rules, loop.time())
        copies.demand.started(loop.time())
        self._balance(target, copies, loop.time())
        try:
            yield
        finally:
            copies.demand.finished(loop.time())

    async def run(self) -> None:
        """Look at all of them once a second, for ever: those without requests cool down."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(_TICK_SECONDS)
            now = loop.time()
            for target, copies in list(self._copies.items()):
                if self._balance(target, copies, now) < 2 and _is_over(copies, now):
                    del self._copies[target]

    def _balance(self, target: str, copies: Copies, now: float) -> int:
        """Make or withdraw a copy if that is due; returns how many there are."""
        instances = self._serving()
        wheres = [instance.where(target) for instance in instances]
        count = sum(where <= Where.LOADING for where in wheres)
        change = copies.decide(now, copies=count, starting=Where.LOADING in wheres)
        if change is Change.ADD and len(instances) > count:
            self._add(target, instances)
        elif change is Change.WITHDRAW:
            self._withdraw(target, instances)
        return count

    def _add(self, target: str, instances: list[Instance]) -> None:
        chosen = place_for_copy([one.place(target) for one in instances], key=target)
        for instance in instances:
            if instance.spec.id == chosen and instance.models is not None:
                self._record("spill", target, text=f"a copy on {chosen}")
                instance.models.warm(target)

    def _withdraw(self, target: str, instances: list[Instance]) -> None:
        chosen = copy_to_withdraw([one.place(target) for one in instances], key=target)
        for instance in instances:
            if instance.spec.id == chosen and instance.models is not None:
                instance.models.withdraw(target, "fewer copies are enough")


def _is_over(copies: Copies, now: float) -> bool:
    return copies.demand.running == 0 and copies.demand.mean(now) < _NEGLIGIBLE
