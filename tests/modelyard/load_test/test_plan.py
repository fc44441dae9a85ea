"""Which requests are sent, and when."""

from __future__ import annotations

from collections import Counter
from itertools import islice

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from modelyard.load_test import trace_plan
from modelyard.load_test.plan import Plan, Planned
from modelyard.traces import Trace, TraceError

plans = st.builds(
    Plan,
    models=st.integers(1, 50),
    seed=st.integers(0, 1000),
    zipf=st.floats(0, 3),
    rate=st.none() | st.floats(0.1, 1e5),
    requests=st.integers(1, 200),
    duration_seconds=st.none() | st.floats(0.01, 100),
)


@given(plans)
def test_the_same_plan_is_the_same_requests(plan: Plan) -> None:
    assert list(plan.planned()) == list(plan.planned())


@given(plans, st.integers(1, 5))
def test_the_parts_of_all_senders_are_the_plan(plan: Plan, parts: int) -> None:
    shares = [islice(plan.planned(), part, None, parts) for part in range(parts)]
    assert sorted(request for share in shares for request in share) == list(plan.planned())


@given(plans)
def test_requests_come_in_order_within_their_bounds(plan: Plan) -> None:
    found = list(plan.planned())
    assert [request.number for request in found] == list(range(len(found)))
    assert len(found) <= (plan.requests or 0)
    assert all(0 <= request.model < plan.models for request in found)
    times = [request.at for request in found]
    assert times == sorted(times)
    if not plan.open_loop:
        assert set(times) == {0.0}
    elif plan.duration_seconds is not None:
        assert all(at < plan.duration_seconds for at in times)


@given(plans, st.integers(0, 50))
def test_the_first_request_for_a_model_is_marked_once(plan: Plan, warm_up: int) -> None:
    known = bytearray(plan.models)
    before = list(plan.warm_up(warm_up).planned(known)) if warm_up else []
    firsts = [request.model for request in (*before, *plan.planned(known)) if request.first]
    asked = {request.model for request in (*before, *plan.planned())}
    assert sorted(firsts) == sorted(asked)


@given(plans)
def test_the_models_do_not_depend_on_the_rate(plan: Plan) -> None:
    def models(one: Plan) -> list[int]:
        return [request.model for request in islice(one.planned(), 20)]

    paces = [replace(plan, rate=rate, duration_seconds=None) for rate in (None, 1.0, 50.0)]
    assert models(paces[0]) == models(paces[1]) == models(paces[2])


def test_popular_models_are_asked_for_more_often() -> None:
    counts = Counter(request.model for request in Plan(100, requests=20_000).planned())
    ranks = [model for model, _ in counts.most_common(3)]
    assert ranks == [0, 1, 2]
    assert 1.7 < counts[0] / counts[1] < 2.3
    alike = Counter(request.model for request in Plan(10, zipf=0, requests=20_000).planned())
    assert min(alike.values()) > 1700


def test_arrivals_have_the_rate_that_was_asked_for() -> None:
    plan = Plan(1, rate=100.0, duration_seconds=100.0)
    assert 9_500 < len(list(plan.planned())) < 10_500


# --- traces ---------------------------------------------------------------------------------------


def trace_of(*uses: tuple[float, str]) -> Trace:
    trace = Trace()
    for at, name in uses:
        trace.add(at, trace.number(name))
    return trace


def test_a_trace_is_sent_at_its_times_to_the_models_of_its_names() -> None:
    trace = trace_of((100, "b"), (101, "a.tar.gz"), (104, "b"))
    models, notes = trace_plan.models_of(trace, ["a.tar.gz", "b.tar.gz"], by_rank=False)
    plan = Plan(2, trace_models=models, trace_times=trace_plan.times_of(trace, 2.0))
    assert notes == []
    assert plan.open_loop
    assert list(plan.planned()) == [
        Planned(0, 0.0, 1, True),
        Planned(1, 0.5, 0, True),
        Planned(2, 2.0, 1, False),
    ]
    assert [request.model for request in plan.warm_up(2).planned()] == [1, 0]


def test_a_trace_of_other_names_is_refused_unless_ranks_count() -> None:
    trace = trace_of((0, "x"), (1, "y"), (2, "y"), (3, "z"))
    with pytest.raises(TraceError, match=r"3 of its 3 models .* 2 models .* 'x' .*--by-rank"):
        trace_plan.models_of(trace, ["a", "b"], by_rank=False)
    models, notes = trace_plan.models_of(trace, ["a", "b"], by_rank=True)
    plan = Plan(2, trace_models=models)
    assert [request.model for request in plan.planned()] == [1, 0, 0, 0]
    assert notes == ["the trace has 3 models, which share the 2 models of the endpoint"]


def test_an_empty_trace_is_refused() -> None:
    with pytest.raises(TraceError, match="no use of a model"):
        trace_plan.models_of(Trace(), ["a"], by_rank=True)
