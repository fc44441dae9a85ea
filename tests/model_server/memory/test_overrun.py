"""Who is stopped when memory is over, and when nobody is."""

from __future__ import annotations

from model_server.memory.ledger import RAM, Ledger
from model_server.memory.overrun import (
    Excess,
    Grown,
    culprit,
    excess,
    overrun_of_all,
    own_overrun,
    patience_bytes,
)

MIB = 1 << 20


def ledger(held: int, *, leaving: int = 0) -> Ledger:
    """1,000 MiB, of which the server takes 100."""
    return Ledger(RAM, 1000 * MIB, 100 * MIB, held * MIB, leaving * MIB)


def test_within_the_limit_there_is_no_excess() -> None:
    assert excess(ledger(900), 0, 1200 * MIB) is None
    assert excess(ledger(500), 400 * MIB, 1200 * MIB) is None


def test_over_the_limit_there_is_time_until_half_of_the_room_above_is_used() -> None:
    assert excess(ledger(900), 100 * MIB, 1200 * MIB) == Excess(100 * MIB, is_urgent=False)
    assert excess(ledger(900), 101 * MIB, 1200 * MIB) == Excess(101 * MIB, is_urgent=True)


def test_what_has_shrunk_makes_up_for_what_has_grown() -> None:
    assert excess(ledger(1000), -100 * MIB, 1200 * MIB) is None


def test_a_limit_above_what_the_kernel_grants_is_none() -> None:
    assert patience_bytes(1000, 600) == 600
    assert excess(ledger(550), 0, 600 * MIB) == Excess(50 * MIB, is_urgent=True)


def test_what_the_kernel_counts_is_urgent_also_when_the_ledger_knows_nothing_of_it() -> None:
    found = excess(ledger(500), 0, 1200 * MIB, 1150 * MIB)
    assert found == Excess(150 * MIB, is_urgent=True)


def test_what_is_about_to_leave_is_neither_in_use_nor_too_much() -> None:
    assert excess(ledger(500, leaving=200), 0, 1200 * MIB, 1150 * MIB) is None


def test_below_that_the_ledger_counts_and_not_the_kernel() -> None:
    assert excess(ledger(500), 0, 1200 * MIB, 1050 * MIB) is None


def test_a_limit_of_its_own_is_for_each_process() -> None:
    assert own_overrun(Grown(10, 5000 * MIB)) is None
    assert own_overrun(Grown(10, 50 * MIB, 50 * MIB)) is None
    reason = own_overrun(Grown(20 * MIB, 70 * MIB, 50 * MIB))
    assert reason is not None
    assert "grew from 20 MiB to 70 MiB, more than its limit of 50 MiB" in reason
    assert "max_memory_bytes" in reason


def test_a_load_says_what_it_took() -> None:
    reason = own_overrun(Grown(0, 70 * MIB, 50 * MIB, is_loading=True))
    assert reason is not None and "took 70 MiB while it loaded" in reason


def test_the_one_that_has_grown_most_pays_and_not_the_largest() -> None:
    large = Grown(800 * MIB, 802 * MIB)
    some, most = Grown(10 * MIB, 60 * MIB), Grown(100 * MIB, 300 * MIB)
    assert culprit([large, some, most]) is most


def test_who_has_not_grown_never_pays() -> None:
    assert culprit([]) is None
    shrunk, hardly, in_proportion = (
        Grown(800 * MIB, 100 * MIB),
        Grown(10 * MIB, 13 * MIB),
        Grown(800 * MIB, 830 * MIB),
    )
    assert culprit([shrunk, hardly, in_proportion]) is None


def test_a_load_within_its_reservation_has_not_grown() -> None:
    assert culprit([Grown(500 * MIB, 499 * MIB, is_loading=True)]) is None


def test_the_reason_has_the_sizes_and_what_to_do() -> None:
    found = Excess(40 * MIB, is_urgent=False)
    reason = overrun_of_all(Grown(120 * MIB, 900 * MIB), ledger(840), found)
    assert "grew from 120 MiB to 900 MiB" in reason
    assert "40 MiB over the 900 MiB" in reason
    assert "MODELYARD_MEMORY_LIMIT_BYTES" in reason
