"""Who leaves the disk: as few as it takes, the least recently used, never one that is pinned."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from endpoint.cache.disk_plan import Stored, unpinned, victims


def _stored(id: str, bytes: int, last_used: float) -> Stored:
    return Stored(id, f"{id}.tar.gz", "", "", bytes, last_used)


_A, _B, _C = _stored("a", 10, 3.0), _stored("b", 20, 1.0), _stored("c", 30, 2.0)

_disks = st.lists(
    st.builds(
        _stored,
        st.text("abcdefgh", min_size=1, max_size=3),
        st.integers(0, 100),
        st.floats(0, 10),
    ),
    max_size=12,
    unique_by=lambda stored: stored.id,
)


def test_nobody_leaves_while_there_is_room() -> None:
    assert victims([_A, _B, _C], (), need_bytes=40, budget_bytes=100) == []


def test_the_least_recently_used_leaves_first() -> None:
    assert victims([_A, _B, _C], (), need_bytes=41, budget_bytes=100) == ["b"]
    assert victims([_A, _B, _C], (), need_bytes=61, budget_bytes=100) == ["b", "c"]


def test_who_is_pinned_is_passed_over() -> None:
    assert victims([_A, _B, _C], ("b",), need_bytes=41, budget_bytes=100) == ["c"]


def test_nobody_leaves_when_that_would_not_be_enough() -> None:
    assert victims([_A, _B, _C], ("b", "c"), need_bytes=51, budget_bytes=100) is None
    assert victims([], (), need_bytes=101, budget_bytes=100) is None


@given(
    disk=_disks,
    data=st.data(),
    need=st.integers(0, 400),
    budget=st.integers(0, 400),
)
def test_a_plan_makes_enough_room_with_no_victim_too_many(
    disk: list[Stored], data: st.DataObject, need: int, budget: int
) -> None:
    ids = [stored.id for stored in disk]
    pinned = data.draw(st.sets(st.sampled_from(ids)) if ids else st.just(set()))
    plan = victims(disk, pinned, need, budget)
    by_id = {stored.id: stored for stored in disk}
    total = sum(stored.bytes for stored in disk)
    if plan is None:
        held = sum(stored.bytes for stored in disk if stored.id in pinned)
        assert held + need > budget
        return
    assert not pinned & {*plan}
    freed = [by_id[id].bytes for id in plan]
    assert total - sum(freed) + need <= budget
    if plan:  # without the last one it would not do
        assert total - sum(freed[:-1]) + need > budget
    assert plan == [stored.id for stored in unpinned(disk, pinned)][: len(plan)]
