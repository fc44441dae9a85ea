"""Where models and requests go among the instances of a variant."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.endpoint.traffic import traffic
from tests.endpoint.user import until
from tests.endpoint.yard import Yard

RANDOM = {"RoutingStrategy": "RANDOM"}


def test_under_light_traffic_each_model_is_on_one_instance_and_all_instances_have_some(
    yard: Yard,
) -> None:
    targets = [f"{number}.tar.gz" for number in range(9)]
    for target in targets:
        yard.add(target)
    yard.endpoint(yard.variant(instances=3))
    for target in targets * 5:
        yard.invoke(target)
    holders = [yard.loaded(target) for target in targets]
    assert [len(holder) for holder in holders] == [1] * len(targets)
    assert len({instance for (instance,) in holders}) == 3
    assert len(yard.events("load")) == len(targets)


def test_a_hot_model_gets_a_copy_which_is_withdrawn_when_it_has_cooled(tmp_path: Path) -> None:
    with Yard(tmp_path, spill_requests=4, copy_idle_seconds=3.0) as yard:
        yard.add("m.tar.gz")
        yard.endpoint(yard.variant(instances=2))
        yard.invoke()
        for stub in yard.stubs():
            stub.rule("invoke", "hang")
        with ThreadPoolExecutor(12) as threads:
            running = [threads.submit(yard.invoke) for _ in range(8)]
            until(lambda: len(yard.loaded()) == 2)
            # With nothing to do it takes what comes next.
            (new,) = [stub for stub in yard.stubs() if not stub.seen("invoke")]
            running += [threads.submit(yard.invoke) for _ in range(4)]
            new.wait_for("invoke", 4)
            for stub in yard.stubs():
                stub.release()
            assert len({one.result().json["pid"] for one in running}) == 2
        until(lambda: len(yard.loaded()) == 1)
        (spill,) = yard.events("spill")
        (withdrawn,) = yard.events("copy_withdrawn")
        assert spill["target"] == withdrawn["target"] == "m.tar.gz"
        (here,) = yard.loaded()
        assert yard.invoke().json["pid"] in yard.processes()
        assert yard.loaded() == [here]
        assert len(yard.events("download")) == 2  # the copy stays on its disk


def test_a_copy_that_cannot_be_had_is_tried_now_and_then_and_costs_no_request(
    tmp_path: Path,
) -> None:
    with Yard(tmp_path, spill_requests=1) as yard:
        yard.add("m.tar.gz")
        yard.endpoint(yard.variant(instances=2))
        pid = yard.invoke().json["pid"]
        (full,) = [stub for stub in yard.stubs() if not stub.loaded()]
        full.rule("load", "answer", status=500)
        with traffic(lambda _: yard.invoke(), threads=4) as seen:
            until(lambda: yard.events("spill"))
            seen.more(300)
        seen.check()
        assert {reply.json["pid"] for reply in seen.replies} == {pid}
        assert len(yard.events("spill")) < 20  # and not with each of the requests


def test_one_instance_never_spills(tmp_path: Path) -> None:
    with Yard(tmp_path, spill_requests=1) as yard:
        yard.add("m.tar.gz")
        yard.endpoint()
        with ThreadPoolExecutor(8) as threads:
            assert (
                len({r.json["pid"] for r in threads.map(lambda _: yard.invoke(), range(60))}) == 1
            )
        assert yard.events("spill") == []


def test_requests_for_one_model_go_to_the_instance_with_least_to_do(yard: Yard) -> None:
    yard.endpoint(yard.variant(mode="SingleModel", instances=2))
    busy, idle = yard.stubs()
    busy.rule("invocations", "hang")
    with ThreadPoolExecutor(1) as threads:
        # Both have nothing to do, and the first is as good as the other.
        running = threads.submit(yard.invoke, None, "hangs")
        busy.wait_for("invocations")
        before = len(idle.seen("invocations"))
        for _ in range(10):
            yard.invoke(None)
        assert len(idle.seen("invocations")) == before + 10
        busy.release()
        running.result()


def test_random_routing_spreads_requests_over_all_instances(yard: Yard) -> None:
    yard.endpoint(yard.variant(mode="SingleModel", instances=2, RoutingConfig=RANDOM))
    for _ in range(100):
        yard.invoke(None)
    counts = [len(stub.seen("invocations")) for stub in yard.stubs()]
    assert sum(counts) == 100
    assert all(25 < count < 75 for count in counts)


def test_random_routing_does_not_spread_a_model_over_all_instances(yard: Yard) -> None:
    yard.endpoint(yard.variant(instances=2, RoutingConfig=RANDOM))
    for _ in range(30):
        yard.invoke()
    assert len(yard.loaded()) == 1
