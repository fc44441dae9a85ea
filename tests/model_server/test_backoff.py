"""How long a restart waits."""

from __future__ import annotations

from itertools import pairwise

from model_server.backoff import (
    FIRST_DELAY_SECONDS,
    GIVE_UP_AFTER,
    MAX_DELAY_SECONDS,
    restart_delay,
)


def test_the_first_restart_is_at_once() -> None:
    assert restart_delay(0) == restart_delay(1) == 0.0


def test_then_it_waits_twice_as_long_each_time_up_to_a_limit() -> None:
    delays = [restart_delay(failures) for failures in range(2, 50)]
    assert delays[0] == FIRST_DELAY_SECONDS
    assert all(later in (2 * earlier, MAX_DELAY_SECONDS) for earlier, later in pairwise(delays))
    assert delays[-1] == MAX_DELAY_SECONDS


def test_it_can_fail_for_years() -> None:
    assert restart_delay(10_000) == MAX_DELAY_SECONDS


def test_a_model_is_given_up_within_seconds() -> None:
    assert sum(map(restart_delay, range(GIVE_UP_AFTER))) < 5
