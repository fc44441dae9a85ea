"""The endpoint's process is killed at any time; the next one goes on where it was."""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path

import httpx
import pytest
from botocore.exceptions import BotoCoreError, ClientError

from tests.endpoint.containers.running import Stub, environment
from tests.endpoint.traffic import traffic
from tests.endpoint.user import until
from tests.endpoint.yard import SERVE, Child, Yard

# Its containers are healthy when they are released.
NOT_YET = environment(rules=[{"on": "ping", "do": "hang"}])

SEEDS = [0, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(1, 5))]
LIVES = 5  # of each seed


@pytest.fixture
def child(tmp_path: Path) -> Iterator[Child]:
    with Child(tmp_path) as started:
        started.add("m.tar.gz", says="hello")
        yield started


def again(child: Child) -> None:
    """Kill it, and start the next one."""
    child.kill()
    child.start()


def until_looked_at(child: Child, count: int, but: Collection[int] = ()) -> set[int]:
    """The processes of so many more instances, as soon as the endpoint has noted them all."""
    until(lambda: len(child.processes()) == len(but) + count)
    for stub in child.containers(but):
        until(partial(listens, stub))
        stub.wait_for("ping")
    return set(child.processes()) - set(but)


def listens(stub: Stub) -> bool:
    """A process that has just been started may not do so yet."""
    with suppress(httpx.TransportError):
        stub.seen()
        return True
    return False


def settled(child: Child, instances: int) -> None:
    """Return when the endpoint is in service with so many instances, and nothing else runs."""
    until(lambda: child.status() == "InService")
    until(lambda: [one["state"] for one in child.instances()] == ["serving"] * instances)
    until(lambda: len(child.processes()) == instances)


def test_running_instances_are_taken_over_with_their_models(child: Child) -> None:
    child.endpoint(child.variant(instances=2))
    before = child.invoke().json["pid"], sorted(child.processes())
    again(child)
    assert child.status() == "InService"
    assert (child.invoke().json["pid"], sorted(child.processes())) == before
    assert child.events("download") == child.events("load") == []
    assert len(child.loaded()) == 1


def test_instances_that_were_let_go_are_taken_over_with_their_models(tmp_path: Path) -> None:
    with Yard(tmp_path) as yard:
        yard.add("m.tar.gz")
        yard.endpoint(yard.variant(instances=2))
        pid = yard.invoke().json["pid"]
        yard.stop_instances = False
    with Yard(tmp_path) as yard:
        assert yard.status() == "InService"
        assert yard.invoke().json["pid"] == pid
        assert yard.events("load") == []


def test_copies_of_an_earlier_life_are_withdrawn(tmp_path: Path) -> None:
    with Child(tmp_path, spill_requests=2, copy_idle_seconds=3.0) as child:
        child.add("m.tar.gz")
        child.endpoint(child.variant(instances=2))
        child.invoke()
        for stub in child.stubs():
            stub.rule("invoke", "hang")
        with traffic(lambda _: child.invoke(), threads=4):
            until(lambda: len(child.loaded()) == 2)
            child.process.kill()
            child.process.wait()
        again(child)
        until(lambda: child.events("copy_withdrawn"))
        assert len(child.loaded()) == 1


def test_this_installations_serve_is_taken_over_with_its_models(tmp_path: Path) -> None:
    with Child(tmp_path, **SERVE) as child:
        child.add("m.tar.gz", model="reports_process")
        child.endpoint()
        pid = child.invoke().json["pid"]
        again(child)
        assert child.invoke().json["pid"] == pid
        assert child.events("load") == []
        child.delete()


def test_requests_wait_for_instances_that_died_meanwhile(child: Child) -> None:
    child.endpoint(child.variant(instances=2))
    pid = child.invoke().json["pid"]
    child.kill()
    for process in child.processes():
        os.kill(process, signal.SIGKILL)
    child.start()
    assert child.status() == "InService"
    reply = child.invoke()
    assert (reply.json["says"], reply.json["pid"] != pid) == ("hello", True)
    assert len(child.events("download")) <= 1  # it is on the disk of one of them
    settled(child, 2)


def test_instances_that_were_stopped_in_order_are_started_again_on_their_disks(
    child: Child,
) -> None:
    child.endpoint()
    child.invoke()
    child.stop()
    assert child.processes() == []
    child.start()
    assert child.status() == "InService"
    assert child.invoke().json["says"] == "hello"
    assert child.events("download") == []


def test_a_restart_needs_neither_model_nor_configuration(child: Child) -> None:
    variant = child.variant()
    child.endpoint(variant)
    child.sagemaker.delete_endpoint_config(
        EndpointConfigName=child.describe()["EndpointConfigName"]
    )
    child.sagemaker.delete_model(ModelName=variant["ModelName"])
    child.stop()
    child.start()
    assert child.invoke().json["says"] == "hello"


def test_an_endpoint_that_was_being_created_is_created(child: Child) -> None:
    child.create(child.variant(instances=2, variables=NOT_YET))
    before = until_looked_at(child, 2)
    again(child)
    assert child.status() == "Creating"
    for stub in child.containers():
        stub.release()
    settled(child, 2)
    assert set(child.processes()) == before


def test_an_endpoint_that_could_not_be_created_has_failed_still(child: Child) -> None:
    child.create(child.variant(variables=environment(exits=3)))
    until(lambda: child.status() == "Failed")
    again(child)
    assert child.status() == "Failed"
    assert "exited with code 3" in child.describe()["FailureReason"]
    child.delete()


def test_an_update_goes_on_beside_the_old_instances(child: Child) -> None:
    child.endpoint()
    old = child.processes()
    config = child.config(child.variant(instances=2, variables=NOT_YET))
    child.sagemaker.update_endpoint(EndpointName="ep", EndpointConfigName=config)
    new = until_looked_at(child, 2, but=old)
    child.sagemaker.delete_endpoint_config(EndpointConfigName=config)
    again(child)
    assert child.status() == "Updating"
    assert child.invoke().json["pid"] in old
    for stub in child.containers(but=old):
        stub.release()
    settled(child, 2)
    assert set(child.processes()) == new
    assert child.describe()["EndpointConfigName"] == config


def test_instances_that_an_update_has_replaced_are_stopped(child: Child) -> None:
    child.endpoint()
    old = child.processes()
    (stub,) = child.stubs()
    stub.rule("invoke", "hang")
    with traffic(lambda _: child.invoke(), threads=1):
        stub.wait_for("invoke")
        config = child.config()
        child.sagemaker.update_endpoint(EndpointName="ep", EndpointConfigName=config)
        until(lambda: child.describe()["EndpointConfigName"] == config)
        child.process.kill()
        child.process.wait()
    again(child)
    settled(child, 1)
    assert set(child.processes()).isdisjoint(old)
    assert child.describe()["EndpointConfigName"] == config


@pytest.mark.parametrize(("before", "after"), [(1, 3), (3, 1)])
def test_a_change_of_capacity_goes_on(child: Child, before: int, after: int) -> None:
    child.endpoint(child.variant(instances=before))
    child.change(("v", {"DesiredInstanceCount": after, "DesiredWeight": 0.5}))
    again(child)
    assert child.invoke().json["says"] == "hello"
    settled(child, after)
    (variant,) = child.describe()["ProductionVariants"]
    assert (variant["DesiredInstanceCount"], variant["CurrentWeight"]) == (after, 0.5)


def test_a_deletion_goes_on_and_leaves_no_file(child: Child) -> None:
    child.endpoint(child.variant(instances=2))
    for each in child.stubs():
        each.rule("invoke", "hang")
    with traffic(lambda _: child.invoke(), threads=1):
        until(lambda: any(each.seen("invoke") for each in child.stubs()))
        child.sagemaker.delete_endpoint(EndpointName="ep")
        assert child.status() == "Deleting"
        child.process.kill()
        child.process.wait()
    again(child)
    child.wait("endpoint_deleted")
    assert child.processes() == []
    assert list(child.directory.glob("data/instances/*")) == []


def test_a_deletion_that_an_orderly_end_interrupted_leaves_no_file_either(child: Child) -> None:
    child.endpoint()
    (stub,) = child.stubs()
    child.invoke()
    stub.rule("invoke", "hang")
    with traffic(lambda _: child.invoke(), threads=1):
        stub.wait_for("invoke", 2)
        child.sagemaker.delete_endpoint(EndpointName="ep")
        child.process.terminate()
        child.process.wait()
    assert child.processes() == []
    again(child)
    child.wait("endpoint_deleted")
    assert list(child.directory.glob("data/instances/*")) == []


@pytest.mark.timeout(180)
@pytest.mark.parametrize("seed", SEEDS)
def test_kills_at_any_moment_leave_no_endpoint_stuck_and_no_process_behind(
    child: Child, seed: int
) -> None:
    dice = random.Random(seed)
    bad = environment(exits=3)
    operations: list[Callable[[], object]] = [
        lambda: child.create(child.variant(instances=dice.choice([1, 2]))),
        lambda: child.create(child.variant(variables=bad)),
        lambda: child.sagemaker.update_endpoint(
            EndpointName="ep",
            EndpointConfigName=child.config(child.variant(instances=dice.choice([1, 2]))),
        ),
        lambda: child.sagemaker.update_endpoint(
            EndpointName="ep", EndpointConfigName=child.config(child.variant(variables=bad))
        ),
        lambda: child.change(("v", {"DesiredInstanceCount": dice.choice([1, 2, 3])})),
        lambda: child.sagemaker.delete_endpoint(EndpointName="ep"),
        lambda: child.invoke(),
    ]
    for _ in range(LIVES):
        over = time.monotonic() + dice.uniform(0.1, 1.0)
        while time.monotonic() < over:
            with suppress(ClientError, BotoCoreError):  # it may be in the way of another
                dice.choice(operations)()
        again(child)
    final = until(lambda: not child.status().endswith("ing") and (child.status() or "gone"))
    if final == "InService":
        (variant,) = child.describe()["ProductionVariants"]
        settled(child, variant["DesiredInstanceCount"])
        assert child.invoke().json["says"] == "hello"
    if final != "gone":
        child.delete()
    assert child.processes() == []
    assert list(child.directory.glob("data/instances/*")) == []
