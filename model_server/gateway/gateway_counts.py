"""What a gateway counts and what it logs of its requests, both off the hot path.

Answering a request adds to numbers in memory and, if it is to be logged, a line to a list. Once a
second the numbers go to the controller and the lines to the log.
"""

from __future__ import annotations

import logging
import time
from bisect import bisect_left

from model_server import wire
from model_server.gateway.http_messages import HttpRequest, HttpResponse
from model_server.stats import BUCKET_SECONDS, BUCKETS

log = logging.getLogger("modelyard.access")

_MAX_PATH_CHARS = 200
_MAX_LINES = 10_000


class Counts:
    """Requests by route and status since the last report."""

    def __init__(self, access_log: str) -> None:
        self._log_from = {"all": 0, "errors": 400, "none": 1000}[access_log]
        self._served: dict[tuple[str, int], list[float]] = {}
        self._lines: list[tuple[float, str, str, int, int, float, str]] = []

    def done(self, request: HttpRequest | None, response: HttpResponse, seconds: float) -> None:
        """A request has been answered; None when it could not even be read."""
        key = (response.route or "other", response.status)
        numbers = self._served.get(key)
        if numbers is None:
            numbers = self._served[key] = [0.0] * (2 + BUCKETS)
        numbers[0] += 1
        numbers[1] += seconds
        numbers[2 + bisect_left(BUCKET_SECONDS, seconds)] += 1
        if response.status >= self._log_from and len(self._lines) < _MAX_LINES:
            method, path = (request.method, request.path) if request else ("?", "?")
            size = len(response.body) if response.length is None else response.length
            self._lines.append(
                (time.time(), method, path, response.status, size, seconds, response.request_id)
            )

    def take(self, pid: int, in_flight: int, limits_seen: int) -> wire.GatewayCounts:
        """The numbers since the last call, as a message."""
        served, self._served = self._served, {}
        return wire.GatewayCounts(
            pid,
            in_flight,
            limits_seen,
            [
                (route, status, int(numbers[0]), numbers[1], tuple(int(n) for n in numbers[2:]))
                for (route, status), numbers in served.items()
            ],
        )

    def write_log(self) -> None:
        """Log the requests answered since the last call."""
        lines, self._lines = self._lines, []
        for answered_at, method, path, status, size, seconds, request_id in lines:
            shown = path if len(path) <= _MAX_PATH_CHARS else f"{path[:_MAX_PATH_CHARS]}…"
            text = f"{method} {shown} {status} {size} bytes {seconds * 1000:.1f} ms"
            record = log.makeRecord(log.name, logging.INFO, "", 0, text, (), None)
            record.created, record.msecs = answered_at, answered_at % 1 * 1000
            record.request_id = request_id
            log.handle(record)
