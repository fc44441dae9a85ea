"""What fits is a matter of plain numbers."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from model_server.memory.ledger import RAM, Ledger, refusal
from model_server.settings import MIB

BYTES = st.integers(0, 1 << 45)


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
