"""What the requests of a run came to, in memory that does not grow with their number."""

from __future__ import annotations

from array import array
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum

from endpoint.metrics.statistics import Statistics
from modelyard.load_test.timeline import Point, Sample, Timeline
from modelyard.load_test.wire import Outcome

# A request that began later than this after its time tells about the client.
LATE_SECONDS = 0.05

_MOST_KINDS = 50
_OTHER_KINDS = "others"
_EXAMPLES = 3


class Sort(StrEnum):
    """How a request was answered.

    COLD: it waited for its model, as the endpoint says. FIRST: the endpoint does not say, and it
    was this test's first for its model. WARM: neither.
    """

    WARM = "warm"
    COLD = "cold"
    FIRST = "first"
    ERROR = "error"


def sort_of(outcome: Outcome) -> Sort:
    """How it was answered."""
    if outcome.kind:
        return Sort.ERROR
    if outcome.loading_wait is None:
        return Sort.FIRST if outcome.first else Sort.COLD if outcome.not_ready else Sort.WARM
    return Sort.COLD if outcome.loading_wait > 0 or outcome.not_ready else Sort.WARM


@dataclass(slots=True)
class ErrorKind:
    """Errors with one code. ``words`` are those of the first, ``models`` some of theirs."""

    first_at: float
    words: str = ""
    count: int = 0
    models: list[int] = field(default_factory=list)


class Tally:
    """The figures of a run over so many models. Latencies are in milliseconds."""

    def __init__(self, models: int) -> None:
        self.requests = 0
        self.answered = 0
        self.last_done = 0.0
        self.latency = Statistics()
        self.by_sort = {sort: Statistics() for sort in Sort}
        self.loading_wait = Statistics()
        self.not_ready_answers = 0
        self.not_ready_requests = 0
        self.late = 0
        self.crowded = 0
        self.most_in_flight = 0
        self.lateness = Statistics()
        self.errors: dict[str, ErrorKind] = {}
        self.timeline = Timeline()
        self.samples = {sort: Sample(seed) for seed, sort in enumerate(Sort)}
        self.window = Statistics()  # since it was replaced last
        self.hopeless_since: float | None = None
        self.requests_of = array("Q", bytes(8 * models))
        self.cold_of = array("Q", bytes(8 * models))
        self.errors_of = array("Q", bytes(8 * models))
        self.latency_of = array("d", bytes(8 * models))  # the sum

    @property
    def failed(self) -> int:
        """How many were not answered."""
        return self.requests - self.answered

    @property
    def cold(self) -> int:
        """How many waited for their model, or may have: cold and first ones."""
        return self.by_sort[Sort.COLD].count + self.by_sort[Sort.FIRST].count

    def add(self, outcomes: Iterable[Outcome], in_flight: int) -> None:
        """Count these, and how many are in flight."""
        self.most_in_flight = max(self.most_in_flight, in_flight)
        for outcome in outcomes:
            self._add(outcome)

    def _add(self, outcome: Outcome) -> None:
        sort, latency = sort_of(outcome), 1000 * max(0.0, outcome.done - outcome.planned)
        self.requests += 1
        self.last_done = max(self.last_done, outcome.done)
        self.by_sort[sort].add(latency)
        self.samples[sort].add(Point(outcome.done, latency))
        self.timeline.at(outcome.planned).planned += 1
        slot = self.timeline.at(outcome.done)
        if sort is Sort.ERROR:
            slot.errors += 1
            self.errors_of[outcome.model] += 1
            self._add_error(outcome)
        else:
            self.answered += 1
            slot.latency.add(latency)
            self.latency.add(latency)
            self.latency_of[outcome.model] += latency
        if sort in (Sort.COLD, Sort.FIRST):
            slot.cold += 1
            self.cold_of[outcome.model] += 1
        self.requests_of[outcome.model] += 1
        self.window.add(latency)
        self._add_waits(outcome)
        self._look_for_hope(outcome)

    def _add_waits(self, outcome: Outcome) -> None:
        if outcome.loading_wait:
            self.loading_wait.add(1000 * outcome.loading_wait)
        if outcome.not_ready:
            self.not_ready_requests += 1
            self.not_ready_answers += outcome.not_ready
        lateness = outcome.begun - outcome.planned
        if lateness > LATE_SECONDS:
            self.late += 1
            self.crowded += outcome.crowded
            self.lateness.add(1000 * lateness)

    def _add_error(self, outcome: Outcome) -> None:
        known = outcome.kind in self.errors or len(self.errors) < _MOST_KINDS
        name = outcome.kind if known else _OTHER_KINDS
        kind = self.errors.setdefault(name, ErrorKind(outcome.done))
        kind.count += 1
        kind.words = kind.words or outcome.words
        if len(kind.models) < _EXAMPLES and outcome.model not in kind.models:
            kind.models.append(outcome.model)

    def _look_for_hope(self, outcome: Outcome) -> None:
        if not outcome.hopeless:
            self.hopeless_since = None
        elif self.hopeless_since is None:
            self.hopeless_since = outcome.done

    def hopeless_for(self, now: float) -> float:
        """For how many seconds nobody has been there to answer."""
        return 0.0 if self.hopeless_since is None else now - self.hopeless_since
