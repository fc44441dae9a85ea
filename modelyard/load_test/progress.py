"""What one sees while a run is under way: on a terminal a line that changes, else some lines."""

from __future__ import annotations

import sys
import time

from endpoint.metrics.statistics import Statistics
from modelyard.load_test.summary import milliseconds
from modelyard.load_test.tally import Tally

_TERMINAL_SECONDS = 1.0
_LINES_SECONDS = 10.0


class Progress:
    """Tells standard error, when it is time to."""

    def __init__(self) -> None:
        self._terminal = sys.stderr.isatty()
        self._period = _TERMINAL_SECONDS if self._terminal else _LINES_SECONDS
        self._told_at = time.monotonic()
        self._told_requests = 0

    def look(self, tally: Tally, started_at: float, in_flight: int) -> None:
        """Tell of a run if something has not been told for a while."""
        now = time.monotonic()
        past = now - self._told_at
        if past < self._period:
            return
        rate = (tally.requests - self._told_requests) / past
        self._told_at, self._told_requests = now, tally.requests
        window, tally.window = tally.window, Statistics()
        p50, p99 = (
            milliseconds(window.quantile(share)) if window.count else "-" for share in (0.5, 0.99)
        )
        text = (
            f"{now - started_at:5.0f} s  {tally.requests:,} requests, {rate:,.0f}/s, "
            f"{tally.failed:,} failed, {tally.cold:,} cold, p50 {p50}, p99 {p99}, "
            f"{in_flight} in flight"
        )
        self._write(f"\r\x1b[K{text}" if self._terminal else f"{text}\n")

    def end(self) -> None:
        """Go to a line of its own."""
        if self._terminal:
            self._write("\r\x1b[K")

    def _write(self, text: str) -> None:
        sys.stderr.write(text)
        sys.stderr.flush()
