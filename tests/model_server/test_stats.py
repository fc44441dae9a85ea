"""Counters in shared memory."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from model_server.stats import (
    BUCKET_SECONDS,
    BUCKETS,
    FAILED,
    FINISHED,
    FIRST_BUCKET,
    HANDLER_NS,
    QUEUE_NS,
    SKIPPED,
    SLOT_FIELDS,
    SLOTS,
    Field,
    StatsTable,
    Totals,
    bucket,
)

WRITES = """
import sys
from model_server.stats import FINISHED, StatsTable
slot = StatsTable(sys.argv[1]).slot(int(sys.argv[2]))
for _ in range(1000):
    slot[FINISHED] += 1
"""


def test_what_another_process_counts_is_seen_here(tmp_path: Path) -> None:
    table = StatsTable.create(tmp_path / "stats")
    index = table.claim()
    assert index is not None
    subprocess.run([sys.executable, "-c", WRITES, str(tmp_path / "stats"), str(index)], check=True)
    assert table.slot(index)[FINISHED] == 1000


def test_slots_are_apart_and_clean_each_time_they_are_claimed(tmp_path: Path) -> None:
    table = StatsTable.create(tmp_path / "stats")
    first, second = table.claim(), table.claim()
    assert first is not None and second is not None and first != second
    for field in range(SLOT_FIELDS):
        table.slot(first)[field] = 2**64 - 1
    assert not any(table.slot(second))
    table.release(first)
    again = table.claim()
    assert again == first
    assert not any(table.slot(again))


def test_when_all_slots_are_taken_there_is_none(tmp_path: Path) -> None:
    table = StatsTable.create(tmp_path / "stats")
    assert len({table.claim() for _ in range(SLOTS)}) == SLOTS
    assert table.claim() is None
    table.release(5)
    assert table.claim() == 5


def test_a_table_takes_no_memory_before_its_slots_are_used(tmp_path: Path) -> None:
    StatsTable.create(tmp_path / "stats")
    assert (tmp_path / "stats").stat().st_blocks * 512 < 1 << 16


def test_the_plain_numbers_are_those_of_the_enum() -> None:
    assert [Field.FINISHED, Field.FAILED, Field.SKIPPED] == [FINISHED, FAILED, SKIPPED]
    assert [Field.HANDLER_NS, Field.QUEUE_NS, Field.BUCKETS] == [HANDLER_NS, QUEUE_NS, FIRST_BUCKET]
    assert FIRST_BUCKET + BUCKETS <= SLOT_FIELDS


@pytest.mark.parametrize("index", range(len(BUCKET_SECONDS)))
def test_a_duration_at_a_bound_belongs_below_it(index: int) -> None:
    at = round(BUCKET_SECONDS[index] * 1e9)
    assert bucket(at) == index
    assert bucket(at + 1) == index + 1


def test_totals_add_up_over_workers_and_copies_are_independent(tmp_path: Path) -> None:
    table = StatsTable.create(tmp_path / "stats")
    for index in range(2):
        slot = table.slot(index)
        slot[FINISHED], slot[FAILED], slot[SKIPPED] = 10, 2, 1
        slot[HANDLER_NS], slot[QUEUE_NS], slot[FIRST_BUCKET + 3] = 500, 50, 10
    totals = Totals()
    totals.add(table.slot(0))
    both = totals.copy()
    both.add(table.slot(1))
    assert (both.finished, both.failed, both.skipped) == (20, 4, 2)
    assert (both.handler_ns, both.queue_ns, both.buckets[3]) == (1000, 100, 20)
    assert (totals.finished, totals.buckets[3]) == (10, 10)
