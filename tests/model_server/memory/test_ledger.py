"""A ledger adds up, and says so."""

from __future__ import annotations

import pytest

from model_server.memory.ledger import MIB, RAM, Ledger, overrun, shown_bytes


def test_free_is_what_nobody_takes_or_has_reserved() -> None:
    ledger = Ledger(RAM, limit_bytes=100, overhead_bytes=30, held_bytes=50, leaving_bytes=40)
    assert (ledger.free_bytes, ledger.models_bytes) == (20, 70)


def test_a_server_larger_than_its_limit_leaves_models_nothing() -> None:
    assert Ledger(RAM, limit_bytes=100, overhead_bytes=130, held_bytes=0).models_bytes == 0


def test_within_the_limit_there_is_nothing_to_say() -> None:
    assert overrun(Ledger(RAM, 100 * MIB, 50 * MIB, 50 * MIB)) == ""


@pytest.mark.parametrize("number", ["60 MiB", "10 MiB", "50 MiB", "100 MiB"])
def test_an_overrun_names_every_number(number: str) -> None:
    assert number in overrun(Ledger(RAM, 100 * MIB, 50 * MIB, 60 * MIB))


@pytest.mark.parametrize(
    ("count", "text"), [(0, "0 MiB"), (812 * MIB, "812 MiB"), (24 << 30, "24.0 GiB")]
)
def test_sizes_are_shown_in_the_unit_that_people_use(count: int, text: str) -> None:
    assert shown_bytes(count) == text
