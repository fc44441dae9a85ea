"""Instances die, hang, are killed by requests; what is asked of them is answered all the same."""

from __future__ import annotations

import os
import signal
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.endpoint.containers.running import at, environment
from tests.endpoint.traffic import traffic
from tests.endpoint.user import Reply, until
from tests.endpoint.yard import STUBS, Yard

TARGETS = [f"{number}.tar.gz" for number in range(4)]


def filled(yard: Yard, instances: int) -> None:
    for target in TARGETS:
        yard.add(target, says=target)
    yard.endpoint(yard.variant(instances=instances))


def invoke_any(yard: Yard, number: int) -> Reply:
    target = TARGETS[number % len(TARGETS)]
    reply = yard.invoke(target)
    assert reply.json["says"] == target
    return reply


def pid_of(yard: Yard, instance: str) -> int:
    record = yard.call(lambda: yard.state.instances.get(instance))
    assert record is not None
    return int(record.handle["pid"])


def test_a_killed_instance_is_replaced_on_its_disk_and_no_request_is_lost(yard: Yard) -> None:
    filled(yard, instances=2)
    with traffic(lambda number: invoke_any(yard, number)) as seen:
        seen.more()
        (instance, _) = yard.loaded(TARGETS[0]) + yard.loaded(TARGETS[1])
        downloads = len(yard.events("download"))
        killed = pid_of(yard, instance)
        os.kill(killed, signal.SIGKILL)
        until(lambda: len(yard.events("instance_started")) == 3)
        seen.more(100)
    seen.check()
    assert pid_of(yard, instance) != killed
    assert "SIGKILL" in yard.events("instance_lost")[0]["text"]
    # Models that went to the other instance are downloaded there, and nothing comes twice.
    again = [(event["instance"], event["target"]) for event in yard.events("download")]
    assert len(set(again)) == len(again) >= downloads
    assert len(yard.processes()) == 2


def test_requests_wait_for_a_replacement_when_all_instances_are_killed(yard: Yard) -> None:
    filled(yard, instances=2)
    with traffic(lambda number: invoke_any(yard, number)) as seen:
        seen.more()
        for pid in yard.processes():
            os.kill(pid, signal.SIGKILL)
        seen.more()
        until(lambda: len(yard.events("instance_started")) == 4)
    seen.check()


def test_requests_that_no_instance_takes_in_time_are_told_that_the_service_is_unavailable(
    tmp_path: Path,
) -> None:
    blocked = tmp_path / "blocked"
    command = f"sh -c 'test ! -e {blocked} && exec $0 \"$@\"' {STUBS['local_command']}"
    with Yard(tmp_path, local_command=command, invoke_timeout_seconds=5.0) as yard:
        filled(yard, instances=1)
        blocked.touch()
        os.kill(yard.processes()[0], signal.SIGKILL)
        until(lambda: yard.events("instance_lost"))
        code, message = yard.code(lambda: yard.invoke(TARGETS[0]))
        assert code == "ServiceUnavailable"
        assert "being replaced" in message
        assert yard.status() == "InService"
        blocked.unlink()
        until(lambda: any(one["state"] == "serving" for one in yard.instances()))
        assert yard.invoke(TARGETS[0]).json["says"] == TARGETS[0]


def test_an_instance_that_hangs_is_replaced_and_its_requests_are_answered(tmp_path: Path) -> None:
    quick: dict[str, Any] = {
        "probe_interval_seconds": 0.2,
        "ping_timeout_seconds": 1.5,  # on a busy machine a healthy one may take that long
        "unhealthy_probes": 2,
    }
    with Yard(tmp_path, **quick) as yard:
        filled(yard, instances=1)
        yard.invoke(TARGETS[0])
        (pid,) = yard.processes()
        os.kill(pid, signal.SIGSTOP)
        assert yard.invoke(TARGETS[0]).json["pid"] != pid
        assert "2 failed health checks in a row" in yard.events("instance_lost")[0]["text"]
        assert pid not in yard.processes()


def test_an_instance_that_fails_a_look_at_its_health_is_asked_after_others(tmp_path: Path) -> None:
    looks: dict[str, Any] = {"probe_interval_seconds": 0.1, "unhealthy_probes": 1000}
    with Yard(tmp_path, **looks) as yard:
        filled(yard, instances=2)
        yard.invoke(TARGETS[0])
        (holder,) = yard.loaded(TARGETS[0])
        url = next(one["url"] for one in yard.instances() if one["id"] == holder)
        at(url).rule("ping", "answer", status=500)
        until(lambda: yard.invoke(TARGETS[0]) and len(yard.loaded(TARGETS[0])) == 2)


def test_a_model_for_which_an_instance_has_no_memory_is_tried_on_another(tmp_path: Path) -> None:
    with Yard(tmp_path) as yard:
        filled(yard, instances=2)
        full, _ = yard.stubs()
        full.rule("load", "answer", status=507)
        for target in TARGETS:
            assert yard.invoke(target).json["says"] == target
        assert full.seen("load")


def test_a_lost_request_is_not_sent_again_where_the_setting_says_so(tmp_path: Path) -> None:
    with Yard(tmp_path, retry_lost_requests=False) as yard:
        filled(yard, instances=2)
        yard.invoke(TARGETS[0])
        (stub,) = [one for one in yard.stubs() if one.loaded()]
        stub.rule("invoke", "hang")
        with ThreadPoolExecutor(1) as threads:
            running = threads.submit(yard.invoke, TARGETS[0])
            stub.wait_for("invoke", 2)
            stub.exit(1)
            with pytest.raises(ClientError) as caught:
                running.result()
        answer = caught.value.response
        assert answer["Error"]["Code"] == "ModelError"
        assert answer["OriginalStatusCode"] == 0
        assert yard.invoke(TARGETS[0]).json["says"] == TARGETS[0]  # nothing had been sent yet


def test_a_request_that_kills_its_containers_is_given_up_and_they_come_back(yard: Yard) -> None:
    kills = yard.variant(instances=2, variables=environment(rules=[{"on": "invoke", "do": "die"}]))
    yard.endpoint(kills)
    code, message = yard.code(yard.invoke)
    assert code == "ModelError"
    assert "could not get a response" in message
    until(lambda: len(yard.events("instance_lost")) == 4)
    until(lambda: [one["state"] for one in yard.instances()] == ["serving"] * 2)
    assert len(yard.events("instance_lost")) == 4
    assert yard.status() == "InService"


def test_instances_that_fall_again_and_again_are_all_there_in_the_end(yard: Yard) -> None:
    filled(yard, instances=2)
    over = threading.Event()

    def kill_some() -> None:
        while not over.wait(0.3):
            for pid in yard.processes()[:1]:
                os.kill(pid, signal.SIGKILL)

    killer = threading.Thread(target=kill_some)
    with traffic(lambda number: invoke_any(yard, number), threads=2) as seen:
        killer.start()
        until(lambda: len(yard.events("instance_lost")) >= 6)
        over.set()
        killer.join()
        until(lambda: [one["state"] for one in yard.instances()] == ["serving"] * 2)
        seen.more()
    # A request may have been on three that fell; more than that is a fault.
    assert all("ModelError" in str(error) for error in seen.errors)
    assert len(yard.processes()) == 2
