"""What fits is a matter of plain numbers."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from model_server.memory.ledger import RAM, Ledger, refusal
from model_server.memory.prediction import FLOOR_BYTES, predict_bytes, predict_worker_bytes
from model_server.settings import MIB

BYTES = st.integers(0, 1 << 45)


def predicted(*, workers: int, shared: bool, learned_bytes: int | None = None) -> int:
    return predict_bytes(
        weight_bytes=100, learned_bytes=learned_bytes, workers=workers, shared=shared
    )


def test_a_model_that_was_never_seen_takes_its_weights_and_a_floor() -> None:
    assert predicted(workers=1, shared=False) == predicted(workers=1, shared=True)
    assert predicted(workers=1, shared=True) == 100 + FLOOR_BYTES


def test_a_model_that_was_seen_takes_what_it_took() -> None:
    assert predicted(workers=1, shared=False, learned_bytes=7) == 7
    assert predicted(workers=3, shared=True, learned_bytes=0) == 0


def test_each_process_takes_its_own_weights_unless_they_share_them() -> None:
    assert predicted(workers=3, shared=False) == 3 * (100 + FLOOR_BYTES)
    assert predicted(workers=3, shared=True) == 100 + 4 * FLOOR_BYTES


def test_one_more_worker_takes_as_much_as_the_largest_and_never_less_than_a_floor() -> None:
    assert predict_worker_bytes([]) == FLOOR_BYTES
    assert predict_worker_bytes([1, FLOOR_BYTES * 3, 2]) == FLOOR_BYTES * 3


@given(limit=BYTES, overhead=BYTES, held=BYTES, need=BYTES)
def test_what_is_let_in_never_goes_over_the_limit(
    limit: int, overhead: int, held: int, need: int
) -> None:
    ledger = Ledger(RAM, limit, overhead, held)
    fits = held + overhead + need <= limit
    assert (refusal(need, ledger) is None) == fits


def test_a_model_that_just_fits_is_let_in_and_one_byte_more_is_not() -> None:
    ledger = Ledger(RAM, limit_bytes=100, overhead_bytes=30, held_bytes=50)
    assert ledger.free_bytes == 20
    assert refusal(20, ledger) is None
    assert refusal(21, ledger) is not None


@pytest.mark.parametrize("number", ["70 MiB", "20 MiB", "100 MiB", "50 MiB", "30 MiB"])
def test_a_refusal_names_every_number_and_the_setting(number: str) -> None:
    reason = refusal(70 * MIB, Ledger(RAM, 100 * MIB, 30 * MIB, 50 * MIB))
    assert reason is not None
    assert number in reason
    assert "MODELYARD_MEMORY_LIMIT_BYTES" in reason


def test_a_refusal_never_speaks_of_less_than_nothing() -> None:
    reason = refusal(MIB, Ledger(RAM, 100 * MIB, 80 * MIB, 50 * MIB))
    assert reason is not None and ", 0 MiB is free" in reason
