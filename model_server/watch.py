"""Looks at what models do and take, many times a second: counts uses, and sees who outgrows memory.

A look must stay cheap with thousands of processes. Only those that are busy or loading can change
much, and the table of counters says in two reads which they are; the others take turns.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable

from model_server import measuring, probe
from model_server.errors import OutOfMemory
from model_server.growth import Growth
from model_server.memory.ledger import RAM, Ledger
from model_server.memory.overrun import (
    Excess,
    Grown,
    culprit,
    excess,
    overrun_of_all,
    own_overrun,
    patience_bytes,
    step_bytes,
)
from model_server.model import Model, Worker
from model_server.processes.workers import Workers
from model_server.stats import FINISHED, STARTED, StatsTable, differing

log = logging.getLogger("modelyard.watch")

LOOK_SECONDS = 0.05

# Of what a load had come to when it was stopped, its next try reserves so many times.
_MORE_NEXT_TIME = 1.5

# For so long it is hoped that busy models become idle and leave, before one that grew is stopped.
_PATIENT_SECONDS = 0.25

# An idle process can grow too, by a thread of its own; each is looked at about this often.
_ROUND_SECONDS = 5.0

_MOST_IN_TURN = 100

# Adding up the ledger of thousands of models takes a millisecond: it is done when models have
# outgrown it by so much more of the limit, and then this often.
_SMALL_SHARE = 0.01
_ADD_UP_SECONDS = 0.25
_CHECK_SECONDS = 1.0

# Between two looks, when more than this share of the kernel's limit is in use: a model that fills
# memory takes 20 MB in 10 ms.
_AMPLE_SHARE = 0.75
_GLANCES = 5


class Watch:
    """Looks after the memory of all workers.

    ``ram()`` is the ledger and ``ceiling_bytes`` what the kernel grants the server. It has
    ``workers`` tell of the requests that were finished. ``on_growth`` hears that a worker takes so
    many bytes now, noticeably more than when it was measured; ``on_pressure`` that so many bytes
    are missing, and says whether it can help (it is asked several times a second while they are).
    Who is over a limit and cannot be helped is stopped. ``in_use()`` is what the kernel says is in
    use, None where it does not. ``on_stop`` hears why: "own_limit" or "limit_of_all".
    """

    def __init__(
        self,
        workers: Workers,
        stats: StatsTable,
        *,
        ram: Callable[[], Ledger],
        ceiling_bytes: int,
        on_growth: Callable[[Model, Worker, int], None],
        on_pressure: Callable[[int], bool],
        in_use: Callable[[], int | None] = probe.memory_use_bytes,
        on_stop: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._workers = workers
        self._stats = stats
        self._ram = ram
        self._ceiling_bytes = ceiling_bytes
        self._on_growth = on_growth
        self._on_pressure = on_pressure
        self._in_use = in_use
        self._on_stop = on_stop
        limit = ram().limit_bytes
        self._patience_bytes = patience_bytes(limit, ceiling_bytes)
        self._ample_bytes = ceiling_bytes * _AMPLE_SHARE
        self._small_bytes = limit * _SMALL_SHARE
        self._is_tight = False
        self._added_bytes = 0
        self._add_up_at = 0.0
        self._check_at = 0.0
        self._finished: list[int] = []
        self._growths: dict[int, Growth] = {}
        self._beyond_bytes = 0
        self._turn = 0
        self._pressed_since: float | None = None

    async def run(self) -> None:
        """Look again and again. Runs for ever."""
        while True:
            await self._until_next()
            await self.look()

    async def _until_next(self) -> None:
        """Wait; while memory is short and somebody could take more, see what is left meanwhile."""
        if not self._is_tight:
            await asyncio.sleep(LOOK_SECONDS)
            return
        for _ in range(_GLANCES):
            await asyncio.sleep(LOOK_SECONDS / _GLANCES)
            if (self._in_use() or 0) > self._patience_bytes:
                return

    async def look(self) -> None:
        """One look."""
        finished = self._stats.column(FINISHED)
        active = {*differing(self._stats.column(STARTED), finished), *self._workers.loading}
        seen = {*active, *self._next_in_turn()}
        self._count_uses(finished)
        for slot in seen:
            self._see(slot)
        for slot in seen:
            await self._hold_to_own_limit(slot)
        in_use = self._in_use() or 0
        self._is_tight = bool(active) and in_use > self._ample_bytes
        if in_use > self._patience_bytes or self._is_worth_adding_up():
            await self._hold_all_to_the_limit(in_use)

    def close(self) -> None:
        """Give all descriptors back."""
        for slot in list(self._growths):
            self._drop(slot)

    # --- what they do ---------------------------------------------------------------------------

    def _count_uses(self, finished: list[int]) -> None:
        before, self._finished = self._finished, finished
        before += [0] * (len(finished) - len(before))
        while self._stats.claimed:  # by a worker that begins at 0
            before[self._stats.claimed.pop()] = 0
        if before == finished:
            return
        for slot in differing(before, finished):
            entry = self._workers.by_slot.get(slot)
            if entry is not None:
                self._workers.count_uses(*entry)

    # --- what they take -------------------------------------------------------------------------

    def _next_in_turn(self) -> Iterable[int]:
        """So many slots that all have had their turn in a round."""
        slots = self._stats.end
        count = min(int(slots * LOOK_SECONDS / _ROUND_SECONDS) + 1, _MOST_IN_TURN)
        start, self._turn = self._turn, self._turn + count
        if self._turn >= slots:
            self._turn = 0
        return range(start, min(start + count, slots))

    def _see(self, slot: int) -> None:
        """Estimate what the worker of a slot takes."""
        entry = self._workers.by_slot.get(slot)
        growth = self._growths.get(slot)
        if growth is not None and (entry is None or growth.worker is not entry[1]):
            self._drop(slot)
            growth = None
        if entry is None:
            return
        try:
            if growth is None:
                growth = self._growths[slot] = Growth(entry[1])
            growth.look()
        except OSError:  # it is gone, or about to be
            if growth is not None:
                self._drop(slot)
            return
        self._note(entry[0], growth)

    def _note(self, model: Model, growth: Growth) -> None:
        worker = growth.worker
        counted = worker.private_bytes if worker.ready else _reserved_for(model)
        if model.is_parking:  # the ledger has the weights that it moves to RAM
            counted = max(counted, model.held_bytes // len(model.processes))
        ends = worker.leaving or worker.verdict is not None
        beyond = -counted if ends else growth.estimated_bytes - counted
        if RAM in model.leaves:  # the ledger has it among those that leave
            beyond = 0
        self._beyond_bytes += beyond - growth.beyond_bytes
        growth.beyond_bytes = beyond
        worker.grown_bytes = max(growth.estimated_bytes - counted, 0)
        more = growth.estimated_bytes - growth.told_bytes
        if worker.ready and not ends and more > step_bytes(growth.told_bytes):
            growth.told_bytes = growth.estimated_bytes
            self._on_growth(model, worker, growth.estimated_bytes)

    def _drop(self, slot: int) -> None:
        growth = self._growths.pop(slot)
        self._beyond_bytes -= growth.beyond_bytes
        growth.close()

    # --- limits ---------------------------------------------------------------------------------

    async def _hold_to_own_limit(self, slot: int) -> None:
        """Stop a worker that takes more than its model may."""
        growth = self._growths.get(slot)
        if growth is None or not _may_be_stopped(growth.worker):
            return
        model, _ = self._workers.by_slot[slot]
        limit = model.plan.settings.max_memory_bytes
        if not limit or growth.estimated_bytes <= limit:
            return
        await self._measure(growth)
        reason = own_overrun(_grown(model, growth))
        if reason is not None and _may_be_stopped(growth.worker):
            self._workers.stop_for(model, growth.worker, OutOfMemory(reason).problem())
            self._on_stop("own_limit")

    def _is_worth_adding_up(self) -> bool:
        """Whether enough has changed to ask for the ledger, which takes a look at each model."""
        now = time.monotonic()
        if self._beyond_bytes > self._small_bytes:
            changed = abs(self._beyond_bytes - self._added_bytes)
            return changed > self._small_bytes or now >= self._add_up_at
        if now < self._check_at:
            return False
        self._check_at = now + _CHECK_SECONDS
        return self._ram().free_bytes < 0  # what has grown is measured, and in the ledger by now

    async def _hold_all_to_the_limit(self, in_use: int) -> None:
        """When all together take too much: have somebody leave, else stop who has grown most."""
        self._added_bytes = self._beyond_bytes
        self._add_up_at = time.monotonic() + _ADD_UP_SECONDS
        if self._excess(in_use) is None:
            self._pressed_since = None
            return
        for slot in list(self._growths):
            self._see(slot)
        found = self._excess(in_use)
        if found is None or any(growth.is_ending for growth in self._growths.values()):
            self._pressed_since = None
            return
        if not found.is_urgent and (self._on_pressure(found.excess_bytes) or self._is_patient()):
            return
        candidates = {
            _grown(model, growth): (model, growth)
            for model, growth in self._watched()
            if _may_be_stopped(growth.worker)
        }
        most = culprit(candidates)
        if most is not None:
            await self._stop_for_all(*candidates[most], found)
        elif found.is_urgent:
            self._on_pressure(found.excess_bytes)

    def _is_patient(self) -> bool:
        """Whether those who could leave but for a moment may still be waited for."""
        now = time.monotonic()
        if self._pressed_since is None:
            self._pressed_since = now
        return now - self._pressed_since < _PATIENT_SECONDS

    def _excess(self, in_use: int) -> Excess | None:
        return excess(self._ram(), self._beyond_bytes, self._ceiling_bytes, in_use)

    def _watched(self) -> list[tuple[Model, Growth]]:
        return [(self._workers.by_slot[slot][0], growth) for slot, growth in self._growths.items()]

    async def _stop_for_all(self, model: Model, growth: Growth, found: Excess) -> None:
        if not found.is_urgent:
            await self._measure(growth)
        grown = _grown(model, growth)
        if grown.growth_bytes and _may_be_stopped(growth.worker):
            if not growth.worker.ready:  # the next try asks for as much
                model.least_bytes = int(growth.estimated_bytes * _MORE_NEXT_TIME)
            reason = overrun_of_all(grown, self._ram(), found)
            self._workers.stop_for(model, growth.worker, OutOfMemory(reason).problem())
            self._on_stop("limit_of_all")

    async def _measure(self, growth: Growth) -> None:
        """Know exactly what the kernel's counts only hint at, before somebody pays for it."""
        measured = await measuring.private_bytes(growth.worker)
        if measured:
            growth.correct(measured)


def _may_be_stopped(worker: Worker) -> bool:
    return worker.verdict is None and not worker.leaving and not worker.exited.done()


def _reserved_for(model: Model) -> int:
    """What one of the workers that are loading was expected to take."""
    loaded = sum(worker.private_bytes for worker in model.processes if worker.ready)
    loading = sum(not worker.ready for worker in model.processes)
    return max(model.held_bytes - loaded, 0) // max(loading, 1)


def _grown(model: Model, growth: Growth) -> Grown:
    worker = growth.worker
    return Grown(
        growth.first_bytes if worker.ready else _reserved_for(model),
        growth.estimated_bytes,
        model.plan.settings.max_memory_bytes,
        not worker.ready,
    )
