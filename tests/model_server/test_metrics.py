"""Known traffic, exact numbers."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from model_server import wire
from model_server.eviction_counts import EvictionCounts
from model_server.memory_metrics import memory_metrics
from model_server.model_metrics import ModelNumbers, model_lines
from model_server.stats import Totals

from ..contract.polling import eventually
from ..contract.raw import RawConnection
from . import inside
from .conftest import Yard
from .measured import Numbers, measured

INVOKE = "/models/{name}/invoke"


def test_known_traffic_is_counted_exactly(
    yard: Yard, threads: ThreadPoolExecutor, tmp_path: Path
) -> None:
    own, endpoint = yard(MODELYARD_GATEWAYS="2")
    endpoint.load("echo", "good")
    endpoint.load("raises_on_predict", "bad")
    endpoint.load("raises_on_load", "worse")
    endpoint.load("echo", "short-lived")
    endpoint.unload("short-lived")
    answers = [threads.submit(endpoint.invoke, "good", b"x") for _ in range(20)]
    assert all(answer.result().status_code == 200 for answer in answers)
    for _ in range(3):
        endpoint.invoke("bad")
        endpoint.invoke("unknown")
    endpoint.send("GET", "/nowhere")
    broken: RawConnection
    with own.connect() as broken:
        broken.send(b"nonsense\r\n\r\n")
        assert broken.receive().status == 400

    def is_exact(now: Numbers) -> bool:
        return [
            now("http_requests_total", route=INVOKE, status="200"),
            now("http_requests_total", route=INVOKE, status="500"),
            now("http_requests_total", route=INVOKE, status="404"),
            now("http_requests_total", route="/models", status="200"),
            now("http_requests_total", route="/models", status="500")
            + now("http_requests_total", route="other", status="500"),
            now("http_requests_total", route="/models/{name}", status="200"),
            now("http_requests_total", route="other", status="400"),
        ] == [20, 3, 3, 3, 1, 1, 1]

    assert measured(endpoint, is_exact)
    now = Numbers(endpoint)
    assert now("http_request_seconds_count", route=INVOKE) == 26
    assert now("http_request_seconds_bucket", route=INVOKE, le="+Inf") == 26
    assert now("invokes_total", model="good") == 20
    assert now("invoke_errors_total", model="good") == 0
    assert now("invokes_total", model="bad") == now("invoke_errors_total", model="bad") == 3
    assert now("handler_seconds_count", model="good") == 20
    assert (now("loads_total"), now("load_failures_total"), now("unloads_total")) == (3, 1, 1)
    assert now("models", state="READY") == 2
    assert now("model_workers", model="good") == 1
    assert now("memory_limit_bytes", ledger="ram") > now("memory_held_bytes", ledger="ram") > 0
    assert now("memory_server_bytes", ledger="ram") > 0
    assert now("load_seconds_total") > 0


def test_the_numbers_of_a_model_survive_its_processes_but_not_its_unload(yard: Yard) -> None:
    _, endpoint = yard()
    endpoint.load("echo", "echo")
    for _ in range(3):
        endpoint.invoke("echo", b"x")
    (pid,) = inside.pids(endpoint, "echo")
    inside.kill(pid)
    endpoint.invoke("echo", b"x")
    assert measured(endpoint, lambda now: now("invokes_total", model="echo") == 4)
    now = Numbers(endpoint)
    assert now("model_restarts_total", model="echo") == now("restarts_total") == 1
    endpoint.unload("echo")
    assert Numbers(endpoint)("invokes_total", model="echo") == 0


def test_what_is_running_and_what_waits_is_told(
    yard: Yard, threads: ThreadPoolExecutor, tmp_path: Path
) -> None:
    _, endpoint = yard()
    endpoint.load("sleeps", "slow")
    running = threads.submit(endpoint.invoke, "slow", f"1.5 {tmp_path / 'begun'}".encode())
    assert eventually((tmp_path / "begun").exists)
    waiting = [threads.submit(endpoint.invoke, "slow", b"0") for _ in range(3)]
    assert measured(endpoint, lambda now: now("model_queued", model="slow") == 3)
    assert Numbers(endpoint)("model_in_flight", model="slow") == 1
    assert measured(endpoint, lambda now: now("http_in_flight") >= 4)
    assert [each.result().status_code for each in [running, *waiting]] == [200] * 4
    now = Numbers(endpoint)
    assert (now("model_queued", model="slow"), now("model_in_flight", model="slow")) == (0, 0)
    assert 1.5 * 3 * 0.5 < now("queue_seconds_total", model="slow") < 20


def test_a_gateway_that_is_killed_leaves_nothing_in_flight(
    yard: Yard, threads: ThreadPoolExecutor, tmp_path: Path
) -> None:
    own, endpoint = yard(MODELYARD_GATEWAYS="1")
    endpoint.load("sleeps", "slow")
    cut = threads.submit(endpoint.invoke, "slow", f"1 {tmp_path / 'begun'}".encode())
    assert eventually((tmp_path / "begun").exists)
    (gateway,) = inside.gateways(own)
    inside.kill(gateway)
    assert cut.exception() is not None
    assert measured(endpoint, lambda now: now("http_in_flight") <= 1)


def test_names_that_need_escaping_are_labels_all_the_same(yard: Yard) -> None:
    _, endpoint = yard()
    name = 'a"b\\c\nd{}🦙'
    endpoint.load("echo", name)
    endpoint.invoke(name, b"x")
    assert measured(endpoint, lambda now: now("invokes_total", model=name) == 1)


def test_the_ledger_is_told_and_adds_up(yard: Yard) -> None:
    _, endpoint = yard()
    endpoint.load("echo", "echo")
    now = Numbers(endpoint)
    parts = [now(f"memory_{part}_bytes", ledger="ram") for part in ("held", "server", "free")]
    assert sum(parts) == now("memory_limit_bytes", ledger="ram")
    assert now("memory_leaving_bytes", ledger="ram") == now("memory_thrashing") == 0
    assert now("memory_wait_seconds_count") == 0


def test_what_memory_came_to_is_told_with_its_labels() -> None:
    counts = EvictionCounts()
    counts.evicted("lru", "evict", "ram", 30)
    counts.evicted("lru", "evict", "ram", 12)
    counts.evicted("lru", "park", "gpu0", 7)
    counts.returned("disk", 0.3)
    counts.returned("parked", 0.002)
    counts.predicted("ram", 10, 15)
    counts.predicted("ram", 20, 15)
    counts.refused("load")
    counts.waited(1.0)
    counts.waited(100.0)
    counts.stopped("limit")
    ledger = wire.LedgerInfo("gpu0", 100, 5, 90, 3, 5)
    memory = wire.MemoryInfo("lru", True, [ledger], [], [wire.ShadowInfo("lru", 5, 2, 1.5)])
    told = {
        (sample.name.removeprefix("modelyard_"), *sample.labels.values()): sample.value
        for family in memory_metrics(memory, counts)
        for sample in family.samples
    }
    assert told["evictions_total", "lru", "evict", "ram"] == 2
    assert told["evicted_bytes_total", "lru", "evict", "ram"] == 42
    assert told["evicted_bytes_total", "lru", "park", "gpu0"] == 7
    assert told["reload_seconds_count", "disk"] == told["reload_seconds_count", "parked"] == 1
    assert told["reload_seconds_sum", "disk"] == 0.3
    assert told["reload_seconds_bucket", "disk", "0.25"] == 0
    assert told["reload_seconds_bucket", "disk", "0.5"] == 1
    assert told["predictions_total", "ram"] == 2
    assert told["prediction_error_bytes_total", "ram"] == 10
    assert told["predicted_models_bytes_total", "ram"] == 30
    assert told["memory_refusals_total", "load"] == told["memory_stops_total", "limit"] == 1
    assert (told["memory_wait_seconds_count",], told["memory_wait_seconds_sum",]) == (2, 101)
    assert told["memory_wait_seconds_bucket", "30.0"] == 1
    assert [
        told[f"memory_{part}_bytes", "gpu0"]
        for part in ("limit", "server", "held", "leaving", "free")
    ] == [100, 5, 90, 3, 5]
    assert told["memory_thrashing",] == 1
    assert [told[f"shadow_{part}_total", "lru"] for part in ("hits", "misses")] == [5, 2]
    assert told["shadow_reload_seconds_total", "lru"] == 1.5


def test_the_lines_of_models_are_read_back_as_they_were_meant() -> None:
    used, names = Totals(), ['a"b\\c\nd{}🦙', "plain", "\\n"]
    used.finished, used.failed, used.handler_ns = 3, 1, 2_000_000_000
    used.buckets[0], used.buckets[2] = 1, 2
    models = [ModelNumbers(name, "READY", 2, 1, 4, 0, 5, used) for name in names]
    models.append(ModelNumbers("unused", "EVICTED", 0, 0, 0, 0, 0, Totals()))
    families = list(text_string_to_metric_families("".join(model_lines(models))))
    told = {
        (family.type, sample.name, *sample.labels.values()): sample.value
        for family in families
        for sample in family.samples
    }
    for name in names:
        assert told["gauge", "modelyard_model_queued", name] == 4
        assert told["counter", "modelyard_invokes_total", name] == 3
        assert told["histogram", "modelyard_handler_seconds_count", name] == 3
        assert told["histogram", "modelyard_handler_seconds_sum", name] == 2
        assert told["histogram", "modelyard_handler_seconds_bucket", name, "0.001"] == 1
        assert told["histogram", "modelyard_handler_seconds_bucket", name, "+Inf"] == 3
    assert told["gauge", "modelyard_model_workers", "unused"] == 0
    assert ("histogram", "modelyard_handler_seconds_count", "unused") not in told
    assert all(family.documentation for family in families)
