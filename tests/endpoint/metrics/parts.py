"""Measures with a clock of the test's, and requests that were never sent."""

from __future__ import annotations

from endpoint.errors import ModelError
from endpoint.invocation import Invocation, Progress
from endpoint.metrics.catalog import Metric
from endpoint.metrics.measures import Measures, Of
from endpoint.metrics.statistics import Statistics

MINUTE = 60
BEGIN = 1_800_000_000 // MINUTE * MINUTE
V = Of("ep", "v")


class Clock:
    """Seconds since 1970; moved by hand."""

    def __init__(self) -> None:
        self.now = float(BEGIN)

    def __call__(self) -> float:
        return self.now


class Measured:
    """Measures, and what was told to them."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.measures = Measures(self.clock)

    def request(
        self,
        error: BaseException | None = None,
        *,
        of: Of = V,
        target: str | None = "m.tar.gz",
        hit: bool | None = True,
        waited: float = 0.0,
        in_model: float = 0.002,
        seconds: float = 0.003,
        serving: int = 1,
    ) -> None:
        """A request is over."""
        progress = Progress(of.variant, "i", hit, waited, in_model, serving)
        invocation = Invocation(of.endpoint, "id", (), b"", target, progress=progress)
        self.measures.answered(invocation, seconds, error)

    def minute(self, metric: Metric, number: int = 0, of: Of = V) -> Statistics:
        """The values of that minute since the beginning; none if there are none."""
        return self.measures.minutes(metric, of).get(BEGIN + number * MINUTE, Statistics())


def model_error(status: int) -> ModelError:
    """A container answered that; 0: nothing usable."""
    return ModelError("no", original_status=status, original="no")
