"""Endpoints come, fail and go, as boto3 sees it."""

from __future__ import annotations

import os
import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from botocore.exceptions import WaiterError

from tests.endpoint.containers.running import environment
from tests.endpoint.user import until
from tests.endpoint.yard import STUBS, Yard


def test_an_endpoint_is_creating_then_in_service_then_deleting_then_unknown(yard: Yard) -> None:
    variant = yard.variant(variables=environment(rules=[{"on": "ping", "do": "hang"}]))
    yard.create(variant)
    (stub,) = until(lambda: [one for one in yard.instances() if one["url"]]) and yard.stubs()
    assert yard.status() == "Creating"
    assert yard.describe()["ProductionVariants"][0]["CurrentInstanceCount"] == 0
    code, message = yard.code(yard.invoke)
    assert (code, "its status is Creating" in message) == ("ValidationError", True)

    stub.release()
    yard.wait("endpoint_in_service")
    assert yard.invoke().json["says"] == "hello"
    assert yard.describe()["ProductionVariants"][0]["CurrentInstanceCount"] == 1

    yard.sagemaker.delete_endpoint(EndpointName="ep")
    assert yard.status() in ("Deleting", "")
    yard.wait("endpoint_deleted")
    assert yard.processes() == []
    assert list((yard.directory / "data/instances").iterdir()) == []
    assert yard.call(yard.state.instances.all) == []


def test_a_request_while_an_endpoint_is_deleted_is_told_so_and_those_that_run_are_answered(
    yard: Yard,
) -> None:
    yard.endpoint()
    (stub,) = yard.stubs()
    stub.rule("invoke", "hang")
    with ThreadPoolExecutor(1) as threads:
        running = threads.submit(yard.invoke)
        stub.wait_for("invoke")
        yard.sagemaker.delete_endpoint(EndpointName="ep")
        code, message = yard.code(yard.invoke)
        assert (code, "its status is Deleting" in message) == ("ValidationError", True)
        stub.release()
        assert running.result().json["says"] == "hello"
    yard.wait("endpoint_deleted")


def test_a_request_that_waits_for_an_instance_is_told_when_the_endpoint_is_deleted(
    tmp_path: Path,
) -> None:
    blocked = tmp_path / "blocked"
    command = f"sh -c 'test ! -e {blocked} && exec $0 \"$@\"' {STUBS['local_command']}"
    with Yard(tmp_path, local_command=command) as yard, ThreadPoolExecutor(1) as threads:
        yard.endpoint()
        blocked.touch()
        os.kill(yard.processes()[0], signal.SIGKILL)
        until(lambda: yard.events("instance_lost"))
        waiting = threads.submit(yard.code, yard.invoke)
        until(lambda: yard.call(lambda: waits(yard)))
        yard.sagemaker.delete_endpoint(EndpointName="ep")
        code, message = waiting.result()
        assert code == "ValidationError"
        assert "its status is Deleting" in message or "not found" in message
        yard.wait("endpoint_deleted")


def waits(yard: Yard) -> bool:
    """Whether the endpoint has a request that no instance has."""
    (variant,) = yard.platform._live["ep"].variants.values()
    return any(copies.demand.running for copies in variant._hot._copies.values())


@pytest.mark.parametrize(
    ("variables", "reason"),
    [
        (environment(exits=3), "exited with code 3"),
        (environment(exits=3), "this container does not start"),
        (environment(rules=[{"on": "ping", "do": "answer", "status": 500}]), "not 500"),
        (environment(rules=[{"on": "*", "do": "answer"}]), "GET /models"),
        (environment(listens=False), "no connection"),
    ],
)
def test_a_container_that_never_becomes_healthy_is_the_reason_why_an_endpoint_failed(
    tmp_path: Path, variables: dict[str, str], reason: str
) -> None:
    with Yard(tmp_path, start_timeout_seconds=4.0) as yard:
        yard.create(yard.variant(variables=variables))
        with pytest.raises(WaiterError, match="Failed"):
            yard.wait("endpoint_in_service")
        described = yard.describe()
        assert reason in described["FailureReason"]
        assert "production variant v" in described["FailureReason"]
        assert yard.processes() == []
        code, message = yard.code(yard.invoke)
        assert (code, "its status is Failed" in message) == ("ValidationError", True)
        code, message = yard.code(lambda: yard.update())
        assert (code, "can only be deleted" in message) == ("ValidationException", True)
        yard.delete()


def test_one_variant_that_fails_ends_those_that_came_up(tmp_path: Path) -> None:
    with Yard(tmp_path) as yard:
        yard.create(yard.variant("good"), yard.variant("bad", variables=environment(exits=1)))
        until(lambda: yard.status() == "Failed")
        assert yard.processes() == []
        yard.delete()


def test_an_endpoint_can_be_deleted_only_when_nothing_is_being_done_to_it(yard: Yard) -> None:
    yard.create(yard.variant(variables=environment(rules=[{"on": "ping", "do": "hang"}])))
    code, message = yard.code(yard.delete)
    assert (code, "in-progress" in message) == ("ValidationException", True)


@pytest.mark.parametrize("change", ["create", "update", "resize"])
def test_deleting_ends_what_is_being_done_to_an_endpoint(yard: Yard, change: str) -> None:
    slow = yard.variant(variables=environment(rules=[{"on": "ping", "do": "hang"}]))
    if change == "create":
        yard.create(slow)
    elif change == "resize":
        yard.endpoint()
        yard.change(("v", {"DesiredInstanceCount": 2}))
    else:
        yard.endpoint()
        config = yard.config(slow)
        yard.sagemaker.update_endpoint(EndpointName="ep", EndpointConfigName=config)
    until(lambda: len(yard.processes()) == (1 if change == "create" else 2))
    yard.call(lambda: yard.platform.delete("ep"))
    yard.wait("endpoint_deleted")
    assert yard.processes() == []


def test_the_name_of_a_deleted_endpoint_is_free_again(yard: Yard) -> None:
    for _ in range(2):
        yard.endpoint()
        assert yard.invoke().json["says"] == "hello"
        yard.delete()


def test_an_endpoint_that_is_not_there_is_told_by_its_name(yard: Yard) -> None:
    assert yard.code(yard.invoke) == (
        "ValidationError",
        "Endpoint ep of account 000000000000 not found.",
    )
    for call in (yard.describe, yard.delete, yard.update, lambda: yard.resize(2)):
        code, message = yard.code(call)
        assert (code, message.startswith("Could not find endpoint")) == (
            "ValidationException",
            True,
        )


@pytest.mark.parametrize(("operation", "name"), [("create", "other"), ("update", "ep")])
def test_a_configuration_that_is_not_there_is_told_and_changes_nothing(
    yard: Yard, operation: str, name: str
) -> None:
    yard.endpoint()
    call = getattr(yard.sagemaker, f"{operation}_endpoint")
    code, message = yard.code(lambda: call(EndpointName=name, EndpointConfigName="none"))
    assert (code, "Could not find endpoint config" in message) == ("ValidationException", True)
    assert (yard.status("ep"), yard.status("other")) == ("InService", "")


def test_a_bucket_or_folder_that_is_not_there_is_an_error_when_the_model_is_created(
    yard: Yard,
) -> None:
    code, message = yard.code(lambda: yard.variant(data=f"file://{yard.directory}/none/"))
    assert (code, "Could not access model data" in message) == ("ValidationException", True)


def test_the_endpoint_goes_on_when_its_model_and_configuration_are_deleted(yard: Yard) -> None:
    variant = yard.variant()
    yard.endpoint(variant)
    yard.sagemaker.delete_endpoint_config(EndpointConfigName=yard.describe()["EndpointConfigName"])
    yard.sagemaker.delete_model(ModelName=variant["ModelName"])
    yard.resize(2)
    assert yard.invoke().json["says"] == "hello"
    assert yard.describe()["ProductionVariants"][0]["CurrentInstanceCount"] == 2
