"""How long to wait before something that died is started again: pure functions."""

from __future__ import annotations

MAX_DELAY_SECONDS = 5.0
FIRST_DELAY_SECONDS = 0.1

# A model whose process cannot be brought back this often is given up until somebody asks again.
GIVE_UP_AFTER = 5
RETRY_FAILED_AFTER_SECONDS = 30.0


def restart_delay(failures_in_a_row: int) -> float:
    """At once the first time, then 0.1 s, doubling, at most 5 s.

    ``failures_in_a_row`` counts deaths without a single request served in between.
    """
    if failures_in_a_row <= 1:
        return 0.0
    doublings = min(failures_in_a_row - 2, 16)  # enough for the limit; 2**1024 is no float
    return float(min(FIRST_DELAY_SECONDS * 2**doublings, MAX_DELAY_SECONDS))
