"""What requests come to, in little memory."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelyard.load_test.tally import Sort, Tally, sort_of
from modelyard.load_test.timeline import Point, Sample, Timeline
from modelyard.load_test.wire import Outcome


def outcome(**members: Any) -> Outcome:
    given = {
        "model": 0,
        "first": False,
        "planned": 0.0,
        "begun": 0.0,
        "done": 0.1,
        "loading_wait": None,
        "not_ready": 0,
        "crowded": False,
        **members,
    }
    return Outcome(**given)


@pytest.mark.parametrize(
    ("members", "sort"),
    [
        ({}, Sort.WARM),
        ({"first": True}, Sort.FIRST),
        ({"first": True, "loading_wait": 0.0}, Sort.WARM),
        ({"loading_wait": 0.2}, Sort.COLD),
        ({"loading_wait": 0.0, "not_ready": 1}, Sort.COLD),
        ({"not_ready": 1}, Sort.COLD),
        ({"first": True, "not_ready": 1}, Sort.FIRST),
        ({"loading_wait": 0.2, "kind": "ModelError 500"}, Sort.ERROR),
    ],
)
def test_a_request_is_cold_when_the_endpoint_says_so(members: dict[str, Any], sort: Sort) -> None:
    assert sort_of(outcome(**members)) == sort


def test_latency_counts_from_the_time_a_request_was_due() -> None:
    tally = Tally(1)
    tally.add([outcome(planned=1.0, begun=3.0, done=3.5, crowded=True)], 1)
    assert tally.latency.most == pytest.approx(2500)
    assert (tally.late, tally.crowded) == (1, 1)


def test_errors_are_counted_by_kind_with_the_words_of_the_first() -> None:
    tally = Tally(3)
    errors = [
        outcome(kind="A", words="first", model=2),
        outcome(kind="A", model=1),
        outcome(kind="A", words="of another sender", model=2),
    ]
    tally.add([*errors, outcome()], 1)
    assert (tally.requests, tally.answered, tally.failed) == (4, 1, 3)
    (kind,) = tally.errors.values()
    assert (kind.count, kind.words, kind.models) == (3, "first", [2, 1])
    assert list(tally.errors_of) == [0, 1, 2]


def test_there_are_not_more_kinds_of_errors_than_one_can_read() -> None:
    tally = Tally(1)
    tally.add([outcome(kind=f"E{number}") for number in range(500)], 1)
    assert len(tally.errors) <= 51
    assert sum(kind.count for kind in tally.errors.values()) == 500


def test_hope_is_lost_from_the_first_failure_without_anybody_there() -> None:
    tally = Tally(1)
    tally.add([outcome(done=1.0, kind="Gone", hopeless=True)], 0)
    tally.add([outcome(done=5.0, kind="Gone", hopeless=True)], 0)
    assert tally.hopeless_since == 1.0
    tally.add([outcome(done=6.0, kind="ModelError 500")], 0)
    assert tally.hopeless_since is None


@given(st.lists(st.floats(0, 1e6), max_size=300))
def test_a_timeline_loses_nothing_and_stays_small(moments: list[float]) -> None:
    timeline = Timeline()
    for moment in moments:
        timeline.at(moment).planned += 1
    assert len(timeline.slots) <= 480
    assert sum(slot.planned for slot in timeline.slots) == len(moments)
    if moments:
        assert timeline.width * len(timeline.slots) > max(moments)


def test_a_sample_is_bounded_and_of_all() -> None:
    sample = Sample(1)
    for number in range(50_000):
        sample.add(Point(number, 1.0))
    assert len(sample.points) == 1200
    late = sum(1 for point in sample.points if point.at >= 25_000)
    assert 500 < late < 700
