"""``GET /metrics``: the text, read by Prometheus' own parser."""

from __future__ import annotations

import asyncio

from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from endpoint.metrics import catalog, prometheus
from endpoint.metrics.catalog import METRICS
from endpoint.metrics.measures import Of
from endpoint.metrics.prometheus import InstanceNow

from .parts import BEGIN, MINUTE, Measured, V, model_error

PREFIX = "modelyard_endpoint_"
Labels = frozenset[tuple[str, str]]
OF_V = {"endpoint_name": "ep", "variant_name": "v"}


class Page:
    """What a page says."""

    def __init__(self, told: Measured, *instances: InstanceNow, models: bool = True) -> None:
        page = asyncio.run(prometheus.text(told.measures, instances, models=models))
        self.text = page.decode()
        self.families = {one.name: one for one in text_string_to_metric_families(self.text)}
        self._values = {
            (sample.name, frozenset(sample.labels.items())): sample.value
            for family in self.families.values()
            for sample in family.samples
        }

    def value(self, name: str, **labels: str) -> float:
        return self._values[PREFIX + name, frozenset({**OF_V, **labels}.items())]

    def targets(self) -> set[str]:
        samples = self.families[PREFIX + "model_invocations"].samples
        return {sample.labels["target_model"] for sample in samples}


def test_names_are_cloudwatchs_with_their_units() -> None:
    names = [prometheus.name_of(metric).removeprefix(PREFIX) for metric in METRICS]
    assert names == [
        "invocations",
        "invocations_per_instance",
        "invocation_4xx_errors",
        "invocation_5xx_errors",
        "invocation_model_errors",
        "model_latency_microseconds",
        "overhead_latency_microseconds",
        "model_loading_wait_time_microseconds",
        "model_downloading_time_microseconds",
        "model_loading_time_microseconds",
        "model_unloading_time_microseconds",
        "model_cache_hit",
        "loaded_model_count",
        "cpu_utilization_percent",
        "memory_utilization_percent",
        "disk_utilization_percent",
        "gpu_utilization_percent",
        "gpu_memory_utilization_percent",
    ]


def test_requests_are_counted_and_timed() -> None:
    told = Measured()
    for seconds in (0.0009, 0.004, 0.04):
        told.request(in_model=seconds, seconds=seconds + 0.001)
    told.request(model_error(500), hit=False, waited=0.3, in_model=0.0, seconds=0.4)
    page = Page(told)
    assert page.value("invocations_total") == 4
    assert page.value("invocation_5xx_errors_total") == 1
    assert page.value("invocation_model_errors_total") == 1
    assert page.value("model_cache_hit_total") == 3
    assert page.value("model_cache_miss_total") == 1
    assert page.value("model_latency_microseconds_count") == 3
    assert page.value("model_latency_microseconds_sum") == 44_900
    for bound, count in (("500.0", 0), ("1000.0", 1), ("5000.0", 2), ("50000.0", 3), ("+Inf", 3)):
        assert page.value("model_latency_microseconds_bucket", le=bound) == count
    assert page.value("model_loading_wait_time_microseconds_sum") == 300_000
    assert page.families[PREFIX + "model_latency_microseconds"].type == "histogram"


def test_each_model_has_its_own_lines_unless_they_are_left_out() -> None:
    told = Measured()
    told.request(target="a", hit=False, waited=0.25, seconds=0.5)
    told.request(model_error(400), target="a")
    told.request(target="b")
    page = Page(told)
    assert page.targets() == {"a", "b"}
    found = {
        name: page.value(f"model_{name}", target_model="a")
        for name in (
            "invocations_total",
            "invocation_errors_total",
            "cold_starts_total",
            "invocation_microseconds_total",
            "wait_microseconds_total",
            "last_invoked_timestamp_seconds",
        )
    }
    assert found == {
        "invocations_total": 2,
        "invocation_errors_total": 1,
        "cold_starts_total": 1,
        "invocation_microseconds_total": 500_000,
        "wait_microseconds_total": 250_000,
        "last_invoked_timestamp_seconds": BEGIN,
    }
    without = Page(told, models=False)
    assert "target_model" not in without.text
    assert without.value("invocations_total") == 3


def test_counters_go_on_over_minutes_and_days() -> None:
    told = Measured()
    seen = 0.0
    for number in range(5):
        told.clock.now = BEGIN + number * 700 * MINUTE
        told.request(in_model=10.0**-number, seconds=2)
        page = Page(told)
        assert page.value("invocations_total") == number + 1
        assert page.value("model_latency_microseconds_count") == number + 1
        assert page.value("model_latency_microseconds_sum") > seen
        seen = page.value("model_latency_microseconds_sum")


def test_instances_have_gauges_of_what_is_known() -> None:
    told = Measured()
    known = InstanceNow(V, "ep.v.0.0", {catalog.CPU_UTILIZATION: 130.5}, requests=3)
    page = Page(told, known, InstanceNow(Of("ep", "v"), "ep.v.0.1", {}, requests=0))
    assert page.value("cpu_utilization_percent", instance_id="ep.v.0.0") == 130.5
    assert len(page.families[PREFIX + "cpu_utilization_percent"].samples) == 1
    assert page.families[PREFIX + "gpu_utilization_percent"].samples == []
    assert page.value("requests", instance_id="ep.v.0.0") == 3
    assert page.value("requests", instance_id="ep.v.0.1") == 0


NAMES = st.text(
    st.characters(exclude_categories=("Cs", "Cc")) | st.sampled_from('\n"\\'), min_size=1
)


@settings(deadline=None, max_examples=40)
@given(st.sets(NAMES, min_size=1, max_size=5))
def test_models_may_have_any_name(targets: set[str]) -> None:
    told = Measured()
    for target in targets:
        told.request(target=target)
    assert Page(told).targets() == targets


def test_names_that_are_long_or_of_html_or_no_text_harm_nothing() -> None:
    told = Measured()
    targets = {"x" * 1000, "<b onclick=\"alert('1')\">&amp;</b>", 'a"} 1\nb{c="', "\\n", "é漢🎈"}
    for target in {*targets, "\ud800"}:
        told.request(target=target)
    assert Page(told).targets() == {*targets, "?"}


def test_a_process_that_has_measured_nothing_has_a_page() -> None:
    page = Page(Measured())
    assert all(family.samples == [] for family in page.families.values())
