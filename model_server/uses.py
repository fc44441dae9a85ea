"""Counts the uses of models, each once, and remembers them of models that were unloaded."""

from __future__ import annotations

import time
from collections import OrderedDict

from model_server.memory.usage import Usage
from model_server.model import Model

_KEPT = 20_000


class Uses:
    """What models are used for is kept in their residents; of models that are not there, here."""

    def __init__(self) -> None:
        self._usages: OrderedDict[str, Usage] = OrderedDict()

    def used(self, model: Model, times: int, now: float) -> None:
        """So many requests were finished; those that were counted when they came are known."""
        known = min(times, model.counted_ahead)
        model.counted_ahead -= known
        model.awaited = False
        if known:
            model.resident.usage.last_used = now
        if times > known:
            model.resident.usage.used(now, times - known)

    def asked_for(self, model: Model) -> None:
        """A request waits for a model that is not in memory."""
        self.count_ahead(model)
        model.awaited = True

    def count_ahead(self, model: Model) -> None:
        """Count a use that will be finished later, or a load, which is made for one."""
        model.resident.usage.used(time.monotonic())
        model.counted_ahead += 1

    def remember(self, model: Model) -> None:
        """Keep what is known of the use of a model that is unloaded."""
        self._usages[model.name] = model.resident.usage
        while len(self._usages) > _KEPT:
            self._usages.popitem(last=False)

    def recall(self, model: Model) -> None:
        """Go on with what is known: a model that is unloaded and loaded again is no stranger."""
        usage = self._usages.pop(model.name, None)
        if usage is not None:
            model.resident.usage = usage
