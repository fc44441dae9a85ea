"""Counters in shared memory."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from handlers.types import MAX_BATCH
from model_server.stats import (
    BATCHES,
    BUCKET_SECONDS,
    BUCKETS,
    FAILED,
    FINISHED,
    FIRST_BUCKET,
    FURTHER,
    FURTHER_KEYS,
    HANDLER_NS,
    QUEUE_NS,
    REQUEST_KEY,
    SKIPPED,
    SLOT_FIELDS,
    SLOTS,
    STARTED,
    StatsTable,
    Totals,
    bucket,
    differing,
    keys_in_hand,
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
    for field in range(FURTHER_KEYS):
        table.slot(first)[field] = 2**64 - 1
    assert not any(table.slot(second))
    table.release(first)
    again = table.claim()
    assert again == first
    assert not any(table.slot(again)[:FURTHER_KEYS])


def test_when_all_slots_are_taken_there_is_none(tmp_path: Path) -> None:
    table = StatsTable.create(tmp_path / "stats")
    assert len({table.claim() for _ in range(SLOTS)}) == SLOTS
    assert table.claim() is None
    table.release(5)
    assert table.claim() == 5


def test_a_table_takes_no_memory_before_its_slots_are_used(tmp_path: Path) -> None:
    StatsTable.create(tmp_path / "stats")
    assert (tmp_path / "stats").stat().st_blocks * 512 < 1 << 16


def test_no_two_places_of_a_slot_overlap() -> None:
    assert len({REQUEST_KEY, STARTED, FINISHED, FAILED, SKIPPED, HANDLER_NS, QUEUE_NS}) == 7
    assert QUEUE_NS < FIRST_BUCKET and FIRST_BUCKET + BUCKETS <= FURTHER < BATCHES < FURTHER_KEYS
    assert FURTHER_KEYS + MAX_BATCH <= SLOT_FIELDS


def test_all_requests_of_a_batch_are_in_hand(tmp_path: Path) -> None:
    slot = StatsTable.create(tmp_path / "stats").slot(3)
    slot[REQUEST_KEY], slot[FURTHER_KEYS], slot[FURTHER_KEYS + 1] = 7, 8, 9
    assert keys_in_hand(slot) == [7]
    slot[FURTHER] = 2
    assert keys_in_hand(slot) == [7, 8, 9]


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


def test_a_column_is_one_field_of_all_slots_that_were_ever_claimed(tmp_path: Path) -> None:
    table = StatsTable.create(tmp_path / "stats")
    assert table.column(FINISHED) == []
    slots = [table.claim() for _ in range(5)]
    for slot in slots:
        assert slot is not None
        table.slot(slot)[FINISHED] = 100 + slot
    table.release(4)
    assert table.column(FINISHED) == [100, 101, 102, 103, 104]
    assert table.column(STARTED) == [0] * 5
    assert table.end == 5


def test_a_column_reaches_to_the_last_slot(tmp_path: Path) -> None:
    table = StatsTable.create(tmp_path / "stats")
    while table.claim() is not None:
        pass
    table.slot(SLOTS - 1)[STARTED] = 7
    assert table.end == SLOTS
    assert list(differing(table.column(STARTED), table.column(FINISHED))) == [SLOTS - 1]


def test_5000_slots_are_looked_through_in_a_millisecond(tmp_path: Path) -> None:
    table = StatsTable.create(tmp_path / "stats")
    for _ in range(5000):
        table.claim()
    table.slot(4321)[STARTED] = 1
    took = []
    for _ in range(20):
        began = time.perf_counter()
        busy = list(differing(table.column(STARTED), table.column(FINISHED)))
        took.append(time.perf_counter() - began)
        assert busy == [4321]
    assert min(took) < 0.001
