"""What a whole endpoint measures, by what boto3 asks of it; its instances are stubs."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from endpoint.metrics import catalog
from endpoint.metrics.catalog import METRICS, Metric
from endpoint.metrics.measures import Of
from endpoint.metrics.statistics import Statistics
from tests.endpoint.containers.running import environment
from tests.endpoint.user import WAIT_SECONDS, until
from tests.endpoint.yard import Yard

WAIT_HEADER = "x-modelyard-loading-wait-time"
HTML = "<b onclick='alert(1)'>&amp;.tar.gz"
LONG = "x" * 200 + "/" + "y" * 200 + "/m.tar.gz"


@pytest.fixture
def yard(tmp_path: Path) -> Iterator[Yard]:
    with Yard(tmp_path) as started:
        started.add("m.tar.gz", says="hello")
        started.add("n.tar.gz", says="hello")
        yield started
        faults = started.faults
    assert not faults


def whole(yard: Yard, metric: Metric, variant: str = "v") -> Statistics:
    """All values so far."""
    return yard.call(lambda: yard.platform.measures.whole(metric, Of("ep", variant)))


def told(yard: Yard, variant: str = "v") -> dict[str, Any]:
    """Count and sum of what is 0 or 1 for each request, and of the times only the count."""
    found = {}
    for metric in METRICS:
        values = whole(yard, metric, variant)
        if metric.namespace == catalog.INVOCATIONS_NAMESPACE and values.count:
            total = values.total if metric.unit is catalog.Unit.NONE else -1
            found[metric.name] = values.count, total
    return found


def variant_of(yard: Yard, number: int = 0) -> Any:
    """A variant, as GET /status has it."""
    (endpoint,) = yard.seen()["endpoints"]
    return endpoint["variants"][number]


def asked(yard: Yard, target: str = "m.tar.gz", **others: Any) -> dict[str, str]:
    """The headers of an answer of InvokeEndpoint."""
    answer = yard.runtime.invoke_endpoint(
        EndpointName="ep", Body=b"", **({"TargetModel": target} if target else {}), **others
    )
    answer["Body"].read()
    headers: dict[str, str] = answer["ResponseMetadata"]["HTTPHeaders"]
    return headers


def test_cold_and_warm_requests(yard: Yard) -> None:
    yard.endpoint(yard.variant(instances=2))
    waits = [int(asked(yard)[WAIT_HEADER]) for _ in range(4)]
    assert waits[0] > 0
    assert waits[1:] == [0, 0, 0]
    assert told(yard) == {
        "Invocations": (4, 4),
        "InvocationsPerInstance": (4, 2),
        "Invocation4XXErrors": (4, 0),
        "Invocation5XXErrors": (4, 0),
        "InvocationModelErrors": (4, 0),
        "ModelLatency": (4, -1),
        "OverheadLatency": (4, -1),
        "ModelLoadingWaitTime": (1, -1),
        "ModelDownloadingTime": (1, -1),
        "ModelLoadingTime": (1, -1),
        "ModelCacheHit": (4, 3),
    }
    waited = whole(yard, catalog.MODEL_LOADING_WAIT_TIME).total
    assert round(waited) == waits[0]
    assert waited <= whole(yard, catalog.OVERHEAD_LATENCY).most
    parts = (catalog.MODEL_DOWNLOADING_TIME, catalog.MODEL_LOADING_TIME)
    assert 0 < sum(whole(yard, metric).total for metric in parts) <= waited


def test_all_who_wait_for_a_model_have_waited(yard: Yard) -> None:
    yard.endpoint()
    (stub,) = yard.stubs()
    stub.rule("load", "hang")
    with ThreadPoolExecutor(3) as pool:
        running = [pool.submit(asked, yard) for _ in range(3)]
        stub.wait_for("load")
        until(lambda: variant_of(yard)["instances"][0]["requests"] == 3)
        stub.release()
        assert all(int(one.result()[WAIT_HEADER]) > 0 for one in running)
    assert whole(yard, catalog.MODEL_LOADING_WAIT_TIME).count == 3
    assert whole(yard, catalog.MODEL_LOADING_TIME).count == 1
    hits = whole(yard, catalog.MODEL_CACHE_HIT)
    assert (hits.count, hits.total) == (3, 0)


def test_errors_of_models_of_loads_and_of_requests(yard: Yard) -> None:
    yard.endpoint()
    (stub,) = yard.stubs()
    yard.invoke()
    for status in (400, 500):
        stub.rule("invoke", "answer", status=status, times=1)
        assert yard.code(yard.invoke)[0] == "ModelError"
    stub.rule("load", "answer", status=500, text="it cannot", times=1)
    assert yard.code(lambda: yard.invoke("n.tar.gz"))[0] == "ModelError"
    assert yard.code(lambda: yard.invoke("none.tar.gz"))[0] == "ValidationError"
    assert yard.code(lambda: yard.invoke(None))[0] == "ValidationError"
    assert yard.code(lambda: yard.invoke(name="other"))[0] == "ValidationError"
    found = told(yard)
    assert found["Invocations"] == (6, 6)
    assert found["Invocation4XXErrors"] == (6, 3)  # of a model, of no object, without a target
    assert found["Invocation5XXErrors"] == (6, 2)
    assert found["InvocationModelErrors"] == (6, 3)
    assert found["ModelLatency"] == (3, -1)
    assert found["ModelCacheHit"] == (5, 2)
    metrics = variant_of(yard)["metrics"]
    counts = {name: metrics[name] for name in ("invocations", "errors", "model_errors")}
    assert counts == {"invocations": 6, "errors": 5, "model_errors": 3}
    assert metrics["cold_starts"] == 3


def test_a_container_that_breaks_off_is_a_model_error_of_5xx(tmp_path: Path) -> None:
    with Yard(tmp_path, retry_lost_requests=False) as yard:
        yard.add("m.tar.gz", says="hello")
        yard.endpoint()
        (stub,) = yard.stubs()
        stub.rule("invoke", "cut", times=1)
        assert yard.code(yard.invoke)[0] == "ModelError"
        found = told(yard)
        assert found["Invocation5XXErrors"] == (1, 1)
        assert found["InvocationModelErrors"] == (1, 1)
        assert found["ModelLatency"] == (1, -1)


def test_unloads_for_room_are_evictions(yard: Yard) -> None:
    yard.endpoint(yard.variant(variables=environment(room=1)))
    yard.invoke("m.tar.gz")
    yard.invoke("n.tar.gz")
    yard.invoke("m.tar.gz")
    assert whole(yard, catalog.MODEL_UNLOADING_TIME).count == 2
    assert whole(yard, catalog.MODEL_DOWNLOADING_TIME).count == 2
    assert whole(yard, catalog.MODEL_LOADING_TIME).count == 3
    seen = variant_of(yard)
    assert seen["metrics"]["evictions"] == 2
    assert seen["models"]["m.tar.gz"]["cold_starts"] == 2


def test_a_model_that_its_container_lost_was_not_in_memory(yard: Yard) -> None:
    yard.endpoint()
    yard.invoke()
    (stub,) = yard.stubs()
    stub.forget(stub.loaded()[0])
    assert int(asked(yard)[WAIT_HEADER]) > 0
    hits = whole(yard, catalog.MODEL_CACHE_HIT)
    assert (hits.count, hits.total) == (2, 0)


def test_a_model_that_its_container_brought_back_was_not_in_memory(yard: Yard) -> None:
    yard.endpoint()
    yard.invoke()
    (stub,) = yard.stubs()
    for told_wait in ("7", "9" * 12, "-3", "9" * 13, "now"):
        stub.rule("invoke", "answer", headers={WAIT_HEADER: told_wait}, times=1)
    assert int(asked(yard)[WAIT_HEADER]) == 7
    assert 0 < int(asked(yard)[WAIT_HEADER]) < 10**9  # no longer than the request took
    assert [asked(yard)[WAIT_HEADER] for _ in range(3)] == ["0", "0", "0"]
    hits = whole(yard, catalog.MODEL_CACHE_HIT)
    assert (hits.count, hits.total) == (6, 3)


def test_each_variant_has_its_own(yard: Yard) -> None:
    yard.endpoint(yard.variant("v"), yard.variant("w"))
    for variant, count in (("v", 3), ("w", 2)):
        for _ in range(count):
            yard.invoke(TargetVariant=variant)
    assert told(yard, "v")["Invocations"] == (3, 3)
    assert told(yard, "w")["Invocations"] == (2, 2)
    (endpoint,) = yard.seen()["endpoints"]
    found = [
        (one["name"], one["metrics"]["invocations"], one["models"]["m.tar.gz"]["invocations"])
        for one in endpoint["variants"]
    ]
    assert found == [("v", 3, 3), ("w", 2, 2)]


def test_an_endpoint_of_one_model_has_no_metrics_of_many(yard: Yard) -> None:
    yard.endpoint(yard.variant(mode="SingleModel", data=f"file://{yard.models}/m.tar.gz"))
    assert WAIT_HEADER not in asked(yard, "")
    assert set(told(yard)) == {
        *("Invocations", "InvocationsPerInstance", "Invocation4XXErrors", "Invocation5XXErrors"),
        *("InvocationModelErrors", "ModelLatency", "OverheadLatency"),
    }
    seen = variant_of(yard)
    assert seen["models"] == {}
    assert seen["instances"][0]["loaded"] == 0


def test_a_client_that_hangs_up_is_counted(yard: Yard) -> None:
    yard.endpoint()
    yard.invoke()
    (stub,) = yard.stubs()
    stub.rule("invoke", "hang")
    port = httpx.URL(yard.url).port
    with closing(HTTPConnection("127.0.0.1", port, timeout=WAIT_SECONDS)) as connection:
        target = {"X-Amzn-SageMaker-Target-Model": "m.tar.gz"}
        connection.request("POST", "/endpoints/ep/invocations", b"", target)
        stub.wait_for("invoke", 2)
    until(lambda: whole(yard, catalog.INVOCATIONS).count == 2)
    stub.release()
    assert whole(yard, catalog.INVOCATION_5XX_ERRORS).count == 1


def test_what_instances_use_is_sampled(yard: Yard) -> None:
    yard.endpoint(yard.variant(instances=2))
    yard.invoke()

    def sampled() -> Any:
        asyncio.run_coroutine_threadsafe(yard.platform.sampling.sample(), yard.loop).result(
            WAIT_SECONDS
        )
        return [one["cpu_percent"] for one in yard.instances()]

    first = until(lambda: all(percent is not None for percent in sampled()))
    assert first
    instances = yard.instances()
    assert sorted(one["loaded"] for one in instances) == [0, 1]
    assert all(one["cpu_percent"] >= 0 and one["gpus"] == [] for one in instances)
    memory = whole(yard, catalog.MEMORY_UTILIZATION)
    assert 0 < memory.least <= memory.most < 100
    assert 0 < whole(yard, catalog.DISK_UTILIZATION).most < 1
    assert whole(yard, catalog.LOADED_MODEL_COUNT).most == 1
    assert whole(yard, catalog.CPU_UTILIZATION).count >= 2
    assert whole(yard, catalog.GPU_UTILIZATION).count == 0


def test_status_has_the_figures_of_each_variant_and_model(yard: Yard) -> None:
    yard.endpoint()
    for target in (HTML, LONG):
        yard.add(target, says="hello")
        yard.invoke(target)
        yard.invoke(target)
    document = yard.seen()
    assert document["time"] == pytest.approx(document["events"][-1]["time"], abs=3600)
    (variant,) = document["endpoints"][0]["variants"]
    latency = variant["metrics"].pop("model_latency_ms")
    assert 0 < latency["p50"] <= latency["p99"]
    assert latency["mean"] > 0
    assert variant["metrics"].pop("overhead_latency_ms").keys() == latency.keys()
    assert variant["metrics"].pop("loading_wait_ms").keys() == latency.keys()
    assert variant["metrics"].pop("invocations_per_second") > 0
    assert variant["metrics"] == {
        "invocations": 4, "errors": 0, "model_errors": 0, "cold_starts": 2, "evictions": 0
    }  # fmt: skip
    assert variant["models"].keys() == {HTML, LONG}
    row = variant["models"][HTML]
    assert row["latency_ms"].keys() == row["loading_wait_ms"].keys() == latency.keys()
    assert row["loading_wait_ms"]["mean"] < row["latency_ms"]["p99"]
    assert (row["invocations"], row["errors"], row["cold_starts"]) == (2, 0, 1)


def test_models_of_a_deleted_endpoint_are_forgotten(yard: Yard) -> None:
    yard.endpoint()
    yard.invoke()
    yard.delete()
    assert yard.call(lambda: yard.platform.measures.models.all()) == []
    yard.endpoint()
    yard.invoke()
    assert variant_of(yard)["models"]["m.tar.gz"]["invocations"] == 1


def page(yard: Yard, query: str = "") -> dict[str, Any]:
    """GET /metrics, by the families' names."""
    answer = httpx.get(f"{yard.url}/metrics{query}", trust_env=False, timeout=WAIT_SECONDS)
    assert answer.status_code == 200, answer.text
    assert answer.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
    return {one.name: one for one in text_string_to_metric_families(answer.text)}


def test_prometheus_can_read_all_of_it(yard: Yard) -> None:
    yard.endpoint(yard.variant(instances=2))
    yard.add(HTML, says="hello")
    for target in (HTML, "m.tar.gz", "m.tar.gz"):
        yard.invoke(target)
    found = page(yard)
    (sample,) = found["modelyard_endpoint_invocations"].samples
    assert (sample.labels, sample.value) == ({"endpoint_name": "ep", "variant_name": "v"}, 3)
    by_model = {
        sample.labels["target_model"]: sample.value
        for sample in found["modelyard_endpoint_model_invocations"].samples
    }
    assert by_model == {HTML: 1, "m.tar.gz": 2}
    loaded = found["modelyard_endpoint_loaded_model_count"].samples
    assert {sample.labels["instance_id"] for sample in loaded} == {"ep.v.0.0", "ep.v.0.1"}
    assert sum(sample.value for sample in loaded) == 2
    assert "modelyard_endpoint_model_invocations" not in page(yard, "?models=0")
    answer = httpx.get(f"{yard.url}/metrics?models=2", trust_env=False)
    assert answer.status_code == 400
    assert "models='2' must be 1, or 0" in answer.text


def test_prometheus_can_ask_while_requests_run_and_endpoints_come_and_go(yard: Yard) -> None:
    yard.endpoint()
    over = threading.Event()

    def scrape() -> list[float]:
        counts = []
        while not over.is_set():
            samples = page(yard)["modelyard_endpoint_invocations"].samples
            counts.append(sum(one.value for one in samples))
        return counts

    with ThreadPoolExecutor(1) as pool:
        scraping = pool.submit(scrape)
        try:
            for _ in range(20):
                yard.invoke()
            yard.endpoint(name="second")
            yard.invoke(name="second")
            yard.delete("second")
        finally:
            over.set()
        counts = scraping.result(WAIT_SECONDS)
    assert counts == sorted(counts)
