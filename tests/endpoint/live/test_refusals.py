"""The engine does not stop a container, the disk takes no more: what serves goes on serving."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from endpoint.fleets.fleet import FleetError
from endpoint.fleets.local import LocalContainer
from tests.endpoint.containers.running import environment
from tests.endpoint.traffic import traffic
from tests.endpoint.user import until
from tests.endpoint.yard import Yard


class Engine:
    """Containers are stopped by it, unless it is ``out``."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.out = False
        self.refused = 0
        stop = LocalContainer.stop

        async def stop_or_not(container: LocalContainer, timeout_seconds: float) -> None:
            if self.out:
                self.refused += 1
                raise FleetError("the engine is restarting")
            await stop(container, timeout_seconds)

        monkeypatch.setattr(LocalContainer, "stop", stop_or_not)


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> Engine:
    return Engine(monkeypatch)


@pytest.fixture
def yard(tmp_path: Path, engine: Engine) -> Iterator[Yard]:
    with Yard(tmp_path) as started:
        started.add("m.tar.gz", says="hello")
        yield started
        engine.out = False
        faults = started.faults
    assert not faults


def test_an_update_whose_old_instance_cannot_be_stopped_is_done_and_the_next_life_stops_it(
    tmp_path: Path, engine: Engine
) -> None:
    with Yard(tmp_path) as yard:
        yard.add("m.tar.gz", says="hello")
        yard.endpoint()
        old = yard.processes()
        engine.out = True
        with traffic(lambda _: yard.invoke()) as seen:
            yard.update(yard.variant(variables={"NEW": "1"}))
            seen.more()
        seen.check()
        assert engine.refused
        assert yard.status() == "InService"
        assert len(yard.processes()) == 2
        yard.stop_instances = False
    engine.out = False
    with Yard(tmp_path) as yard:
        assert yard.status() == "InService"
        until(lambda: len(yard.processes()) == 1)
        assert yard.invoke().json["pid"] not in old
        assert len(list((tmp_path / "data/instances").iterdir())) == 1


def test_an_instance_that_could_not_be_stopped_for_fewer_is_stopped_by_the_next_life(
    tmp_path: Path, engine: Engine
) -> None:
    with Yard(tmp_path) as yard:
        yard.add("m.tar.gz", says="hello")
        yard.endpoint(yard.variant(instances=2))
        engine.out = True
        yard.resize(1)
        (variant,) = yard.describe()["ProductionVariants"]
        assert (variant["CurrentInstanceCount"], variant["DesiredInstanceCount"]) == (1, 1)
        assert len(yard.processes()) == 2
        yard.stop_instances = False
    engine.out = False
    with Yard(tmp_path) as yard:
        until(lambda: len(yard.processes()) == 1)
        assert yard.invoke().json["says"] == "hello"


def test_an_instance_that_could_not_be_stopped_is_taken_up_again_for_more(
    yard: Yard, engine: Engine
) -> None:
    yard.endpoint(yard.variant(instances=2))
    before = sorted(yard.processes())
    engine.out = True
    yard.resize(1)
    engine.out = False
    yard.resize(2)
    assert sorted(yard.processes()) == before
    yard.delete()
    assert yard.processes() == []


def test_a_deletion_goes_on_until_the_engine_stops_the_instances(
    yard: Yard, engine: Engine
) -> None:
    yard.endpoint()
    engine.out = True
    yard.sagemaker.delete_endpoint(EndpointName="ep")
    until(lambda: engine.refused >= 3)
    assert yard.status() == "Deleting"
    engine.out = False
    yard.wait("endpoint_deleted")
    assert yard.processes() == []


# Its containers are healthy when they are released.
NOT_YET = environment(rules=[{"on": "ping", "do": "hang"}])


def test_an_endpoint_that_comes_up_while_the_disk_is_full_is_in_service_when_it_has_space(
    yard: Yard,
) -> None:
    yard.create(yard.variant(variables=NOT_YET))
    (stub,) = until(lambda: [one for one in yard.instances() if one["url"]]) and yard.stubs()
    stub.wait_for("ping")
    yard.no_more_space()
    stub.release()
    until(lambda: [one["state"] for one in yard.instances()] == ["serving"])
    assert yard.invoke().json["says"] == "hello"
    assert yard.status() == "Creating"
    yard.no_more_space(False)
    yard.wait("endpoint_in_service")
    yard.delete()


@pytest.mark.parametrize("works", [True, False])
def test_an_update_that_ends_while_the_disk_is_full_is_noted_when_it_has_space(
    yard: Yard, works: bool
) -> None:
    yard.endpoint()
    old, before = yard.processes(), yard.describe()["EndpointConfigName"]
    config = yard.config(yard.variant(variables=NOT_YET))
    yard.sagemaker.update_endpoint(EndpointName="ep", EndpointConfigName=config)
    until(lambda: [one for one in coming(yard) if one["url"]])
    (stub,) = yard.containers(but=old)
    stub.wait_for("ping")
    yard.no_more_space()
    with traffic(lambda _: yard.invoke()) as seen:
        if works:
            stub.release()
            until(lambda: [one["state"] for one in coming(yard)] == ["serving"])
        else:
            stub.exit(3)
            until(lambda: yard.processes() == old)
        seen.more()
        assert yard.status() == "Updating"
        yard.no_more_space(False)
        yard.wait("endpoint_in_service")
        seen.more()
    seen.check()
    assert yard.describe()["EndpointConfigName"] == (config if works else before)
    assert ("exited with code 3" in yard.describe().get("FailureReason", "")) is not works
    assert len(yard.processes()) == 1
    assert coming(yard) == []


def coming(yard: Yard) -> list[Any]:
    """The instances of an update that is under way."""
    (endpoint,) = yard.seen()["endpoints"]
    return [one for variant in endpoint["coming"] for one in variant["instances"]]
