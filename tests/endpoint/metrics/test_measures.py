"""What is made of requests and events, by a clock of the test's."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from endpoint.errors import ApiError, InternalFailure, ModelNotReady, ServiceUnavailable
from endpoint.errors import ValidationError as Invalid
from endpoint.events import Events
from endpoint.invocation import Invocation
from endpoint.metrics import catalog, summary
from endpoint.metrics.measures import Of
from endpoint.metrics.models import ModelTable
from endpoint.metrics.series import KEPT_SECONDS

from .parts import BEGIN, MINUTE, Measured, V, model_error


def test_a_request_counts_once_in_each_of_its_metrics() -> None:
    told = Measured()
    told.request(serving=4)
    one = {metric: told.minute(metric) for metric in catalog.METRICS}
    found = {metric.name: (values.count, values.total) for metric, values in one.items()}
    assert {name: told for name, told in found.items() if told[0]} == {
        "Invocations": (1, 1),
        "InvocationsPerInstance": (1, 0.25),
        "Invocation4XXErrors": (1, 0),
        "Invocation5XXErrors": (1, 0),
        "InvocationModelErrors": (1, 0),
        "ModelLatency": (1, pytest.approx(2000)),
        "OverheadLatency": (1, pytest.approx(1000)),
        "ModelCacheHit": (1, 1),
    }


@pytest.mark.parametrize(
    ("error", "errors"),
    [
        (None, (0, 0, 0)),
        (Invalid("no such model"), (1, 0, 0)),
        (ModelNotReady("later"), (1, 0, 0)),
        (ServiceUnavailable("nobody"), (0, 1, 0)),
        (InternalFailure("ours"), (0, 1, 0)),
        (RuntimeError("ours, too"), (0, 1, 0)),
        (model_error(400), (1, 0, 1)),
        (model_error(404), (1, 0, 1)),
        (model_error(500), (0, 1, 1)),
        (model_error(507), (0, 1, 1)),
        (model_error(301), (0, 0, 1)),
        (model_error(0), (0, 1, 1)),
    ],
    ids=str,
)
def test_errors_are_those_of_the_container_where_it_spoke(
    error: ApiError | None, errors: tuple[int, int, int]
) -> None:
    told = Measured()
    told.request(error)
    metrics = (
        catalog.INVOCATION_4XX_ERRORS,
        catalog.INVOCATION_5XX_ERRORS,
        catalog.INVOCATION_MODEL_ERRORS,
    )
    assert tuple(told.minute(metric).total for metric in metrics) == errors
    assert summary.of_variant(told.measures, V)["model_errors"] == errors[2]


def test_a_request_whose_client_hung_up_counts_and_has_no_latency() -> None:
    told = Measured()
    told.request(asyncio.CancelledError())
    assert told.minute(catalog.INVOCATIONS).count == 1
    for metric in (catalog.MODEL_LATENCY, catalog.OVERHEAD_LATENCY, catalog.INVOCATION_5XX_ERRORS):
        assert told.minute(metric).count == 0
    row = told.measures.models.of("ep", "v")["m.tar.gz"]
    assert (row.invocations, row.errors, row.latency.values(BEGIN).count) == (1, 0, 0)


def test_a_request_that_reached_no_variant_counts_nowhere() -> None:
    told = Measured()
    told.measures.answered(Invocation("none", "id", (), b"", "m.tar.gz"), 0.1, Invalid("none"))
    assert list(told.measures.series()) == []
    assert told.measures.models.all() == []


def test_a_request_that_never_came_to_its_container_has_no_model_latency() -> None:
    told = Measured()
    told.request(Invalid("no such object"), hit=False, waited=0.2, in_model=0.0, seconds=0.25)
    assert told.minute(catalog.MODEL_LATENCY).count == 0
    assert told.minute(catalog.OVERHEAD_LATENCY).total == pytest.approx(250_000)
    assert told.minute(catalog.MODEL_LOADING_WAIT_TIME).total == pytest.approx(200_000)


def test_only_requests_that_missed_their_model_have_waited_for_it() -> None:
    told = Measured()
    for _ in range(3):
        told.request()
    told.request(hit=False, waited=0.5, seconds=0.6)
    hits = told.minute(catalog.MODEL_CACHE_HIT)
    assert (hits.count, hits.mean) == (4, 0.75)
    waits = told.minute(catalog.MODEL_LOADING_WAIT_TIME)
    assert waits.count == 1
    assert waits.mean == pytest.approx(500_000)


def test_an_endpoint_of_one_model_has_neither_hits_nor_models() -> None:
    told = Measured()
    told.request(target=None, hit=None)
    assert told.minute(catalog.INVOCATIONS).count == 1
    assert told.minute(catalog.MODEL_CACHE_HIT).count == 0
    assert told.measures.models.all() == []


def test_values_are_of_the_minute_in_which_they_were_told() -> None:
    told = Measured()
    for number, count in enumerate((2, 0, 3)):
        told.clock.now = BEGIN + number * MINUTE + 59.9
        for _ in range(count):
            told.request(in_model=0.01 * (number + 1), seconds=1)
    for metric in (catalog.INVOCATIONS, catalog.MODEL_LATENCY):
        minutes = told.measures.minutes(metric, V)
        found = {minute - BEGIN: values.count for minute, values in minutes.items()}
        assert found == {0: 2, 2 * MINUTE: 3}
        assert len(minutes) == 2
        assert told.measures.whole(metric, V).count == 5
    assert told.minute(catalog.MODEL_LATENCY, 2).least == pytest.approx(30_000)
    assert told.measures.lately(catalog.MODEL_LATENCY, V, minutes=2).count == 3
    assert told.measures.lately(catalog.MODEL_LATENCY, V, minutes=3).count == 5


def test_a_clock_that_is_set_back_loses_nothing() -> None:
    told = Measured()
    told.clock.now += 10 * MINUTE
    told.request()
    told.clock.now -= 5 * MINUTE
    told.request()
    told.measures.add(catalog.LOADED_MODEL_COUNT, V, 1)
    assert told.minute(catalog.INVOCATIONS, 10).count == 2
    assert told.measures.whole(catalog.MODEL_LATENCY, V).count == 2
    assert told.measures.per_second(V) >= 0


def test_minutes_are_kept_for_a_day_and_totals_for_ever() -> None:
    told = Measured()
    for number in range(KEPT_SECONDS // MINUTE + 10):
        told.clock.now = BEGIN + number * MINUTE
        told.request()
    minutes = told.measures.minutes(catalog.INVOCATIONS, V)
    assert len(minutes) == KEPT_SECONDS // MINUTE
    assert min(minutes) == BEGIN + 10 * MINUTE
    assert told.measures.whole(catalog.INVOCATIONS, V).total == KEPT_SECONDS // MINUTE + 10
    assert summary.of_variant(told.measures, V)["invocations"] == KEPT_SECONDS // MINUTE + 10


def test_variants_of_which_nothing_is_kept_any_more_are_forgotten() -> None:
    told = Measured()
    told.request(of=Of("old", "v"))
    told.clock.now += KEPT_SECONDS / 2
    told.request(of=Of("new", "v"))
    assert {of.endpoint for of in told.measures.variants()} == {"old", "new"}
    told.clock.now += KEPT_SECONDS / 2 + 2 * MINUTE
    told.request(of=Of("other", "v"))
    assert {of.endpoint for of in told.measures.variants()} == {"new", "other"}


def test_the_rate_is_that_of_the_last_minute() -> None:
    told = Measured()
    assert told.measures.per_second(V) == 0
    for second in range(120):
        told.clock.now = BEGIN + second
        for _ in range(5):
            told.request()
    told.clock.now += 0.5
    assert told.measures.per_second(V) == pytest.approx(5)
    told.clock.now += 30
    assert told.measures.per_second(V) == pytest.approx(2.5)
    told.clock.now += 60
    assert told.measures.per_second(V) == 0


def test_a_young_variants_rate_is_of_its_life() -> None:
    told = Measured()
    for second in range(10):
        told.clock.now = BEGIN + second
        told.request()
    assert told.measures.per_second(V) == pytest.approx(10 / 9)


def test_events_are_measured_by_what_they_took() -> None:
    told, events = Measured(), Events()
    events.listen(told.measures.happened)
    record = events.of("ep", "v", "i")
    record("download", "m", seconds=0.5)
    record("load", "m", seconds=0.25)
    record("unload", "m", seconds=0.125, text="it is not served any more")
    record("instance_started", seconds=9.0)
    record("load_failed", "m", text="no")
    found = {metric.name: told.minute(metric).total for metric, _ in told.measures.series()}
    assert found == {
        "ModelDownloadingTime": pytest.approx(500_000),
        "ModelLoadingTime": pytest.approx(250_000),
        "ModelUnloadingTime": pytest.approx(125_000),
    }
    assert told.measures.evictions(V) == 0


def test_models_that_left_for_want_of_memory_are_evictions() -> None:
    told, events = Measured(), Events()
    events.listen(told.measures.happened)
    record = events.of("ep", "v", "i")
    record("evict", "a", text="for b")
    record("unload", "b", seconds=0.1, text="to make room")
    record("unload", "c", seconds=0.1, text="memory is over 80 %")
    record("unload", "d", seconds=0.1, text="fewer copies are enough")
    assert told.measures.evictions(V) == 3
    assert summary.of_variant(told.measures, V)["evictions"] == 3


def test_figures_of_a_model_are_of_the_last_minutes_and_its_counts_of_all_time() -> None:
    told = Measured()
    told.request(hit=False, waited=0.5, seconds=0.6)
    told.request(model_error(500))
    row = rows(told)["m.tar.gz"]
    assert (row["invocations"], row["errors"], row["cold_starts"]) == (2, 1, 1)
    assert row["latency_ms"] == pytest.approx({"mean": 600, "p50": 600, "p99": 600})
    assert row["loading_wait_ms"] == pytest.approx({"mean": 500, "p50": 500, "p99": 500})
    assert row["last_invoked"] == BEGIN
    told.clock.now += 9 * MINUTE
    assert rows(told)["m.tar.gz"]["latency_ms"] is not None
    told.clock.now += MINUTE
    assert rows(told)["m.tar.gz"] == {**row, "latency_ms": None, "loading_wait_ms": None}
    told.request(seconds=0.1)
    now = rows(told)["m.tar.gz"]
    assert (now["invocations"], now["latency_ms"]["mean"]) == (3, pytest.approx(100))


def rows(told: Measured) -> dict[str, dict[str, Any]]:
    return asyncio.run(summary.of_models(told.measures, V))


def test_a_long_pause_leaves_nothing_of_before_in_a_models_figures() -> None:
    told = Measured()
    told.request(seconds=1.0)
    told.clock.now += 60 * MINUTE
    told.request(seconds=2.0)
    values = told.measures.models.of("ep", "v")["m.tar.gz"].latency.values(told.clock.now)
    assert (values.count, values.total) == (1, 2.0)


def test_of_more_models_than_are_kept_those_go_that_were_asked_for_the_longest_ago() -> None:
    told = Measured()
    told.measures.models = ModelTable(most=3)
    for number, target in enumerate("abcad"):
        told.clock.now = BEGIN + number
        told.request(target=target, of=Of("ep", "v" if target != "c" else "w"))
    assert set(told.measures.models.of("ep", "v")) == {"a", "d"}
    assert set(told.measures.models.of("ep", "w")) == {"c"}
    assert [key[2] for key, _ in told.measures.models.since(BEGIN + 3)] == ["d", "a"]
    told.measures.models.forget("ep")
    assert told.measures.models.all() == []
    assert told.measures.models.of("ep", "v") == {}


def test_two_variants_are_told_apart() -> None:
    told = Measured()
    told.request()
    told.request(of=Of("ep", "w"), seconds=0.5, in_model=0.5)
    assert told.minute(catalog.MODEL_LATENCY).total == pytest.approx(2000)
    assert told.minute(catalog.MODEL_LATENCY, of=Of("ep", "w")).total == pytest.approx(500_000)
    assert summary.of_variant(told.measures, Of("ep", "u"))["model_latency_ms"] is None


@pytest.mark.parametrize("what", [lambda m: m.whole, lambda m: m.minutes, lambda m: m.lately])
def test_there_is_nothing_of_what_was_never_measured(
    what: Callable[..., Callable[..., object]],
) -> None:
    found = what(Measured().measures)(catalog.CPU_UTILIZATION, Of("none", "v"))
    assert not getattr(found, "count", found)
