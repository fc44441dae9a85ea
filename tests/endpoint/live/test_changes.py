"""Capacities and configurations change while requests come, and none of them fails."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.endpoint.containers import running
from tests.endpoint.containers.running import environment
from tests.endpoint.traffic import traffic
from tests.endpoint.user import Reply, until
from tests.endpoint.yard import Yard


def test_instances_come_and_go_without_a_failed_request(yard: Yard) -> None:
    for number in range(6):
        yard.add(f"{number}.tar.gz", says=str(number))
    yard.endpoint()

    def invoke(number: int) -> Reply:
        reply = yard.invoke(f"{number % 6}.tar.gz")
        assert reply.json["says"] == str(number % 6)
        return reply

    with traffic(invoke) as seen:
        for count in (3, 1, 2, 1):
            yard.resize(count)
            seen.more()
            (variant,) = yard.describe()["ProductionVariants"]
            assert variant["CurrentInstanceCount"] == variant["DesiredInstanceCount"] == count
            assert len(yard.processes()) == count
    seen.check()


def test_more_instances_that_do_not_come_up_leave_the_endpoint_as_it_was(tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    command = f"sh -c 'test ! -e {gone} && exec $0 \"$@\"' "
    with Yard(tmp_path, local_command=command + running.COMMAND) as yard:
        yard.add("m.tar.gz")
        yard.endpoint()
        gone.touch()
        with traffic(lambda _: yard.invoke()) as seen:
            yard.change(("v", {"DesiredInstanceCount": 3, "DesiredWeight": 0.5}))
            yard.wait("endpoint_in_service")
            seen.more()
        seen.check()
        described = yard.describe()
        (variant,) = described["ProductionVariants"]
        assert (variant["CurrentInstanceCount"], variant["DesiredInstanceCount"]) == (1, 1)
        assert (variant["CurrentWeight"], variant["DesiredWeight"]) == (1.0, 1.0)
        assert "exited with code 1" in described["FailureReason"]
        assert [each["text"].split(":")[0] for each in yard.events("endpoint_status")][-2:] == [
            "RollingBack",
            "InService",
        ]
        assert len(yard.processes()) == 1
        gone.unlink()
        yard.resize(2)
        assert "FailureReason" not in yard.describe()


def test_if_one_variant_cannot_grow_all_are_as_they_were(tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    command = f'sh -c \'test -z "$FAILS" || test ! -e {gone} && exec $0 "$@"\' '
    with Yard(tmp_path, local_command=command + running.COMMAND) as yard:
        yard.add("m.tar.gz")
        yard.endpoint(yard.variant("a"), yard.variant("b", variables={"FAILS": "1"}))
        before = sorted(yard.processes())
        gone.touch()
        yard.change(
            ("a", {"DesiredInstanceCount": 2, "DesiredWeight": 5}),
            ("b", {"DesiredInstanceCount": 2, "DesiredWeight": 7}),
        )
        yard.wait("endpoint_in_service")
        assert "exited with code 1" in yard.describe()["FailureReason"]
        for variant in yard.describe()["ProductionVariants"]:
            assert (variant["CurrentInstanceCount"], variant["DesiredInstanceCount"]) == (1, 1)
            assert (variant["CurrentWeight"], variant["DesiredWeight"]) == (1.0, 1.0)
        assert sorted(yard.processes()) == before


def test_an_update_shifts_all_requests_to_new_containers_and_none_fails(yard: Yard) -> None:
    yard.add("m.tar.gz", says="from elsewhere", to="elsewhere")
    yard.endpoint(yard.variant(instances=2))
    before = set(yard.processes())
    with traffic(lambda _: yard.invoke()) as seen:
        seen.more()
        yard.update(yard.variant(variables={"NEW": "1"}))
        assert before.isdisjoint(yard.processes())
        yard.update(yard.variant("w", instances=2, data=f"file://{yard.directory}/elsewhere/"))
        reached = len(seen.replies) + 10  # some may have been on their way
        seen.more(40)
    seen.check()
    assert {reply.variant for reply in seen.replies} == {"v", "w"}
    assert {reply.json["says"] for reply in seen.replies[reached:]} == {"from elsewhere"}
    assert [one["VariantName"] for one in yard.describe()["ProductionVariants"]] == ["w"]
    assert len(list((yard.directory / "data/instances").iterdir())) == 2


def test_requests_that_run_during_an_update_are_answered_by_the_old_containers(
    yard: Yard,
) -> None:
    yard.endpoint()
    (stub,) = yard.stubs()
    stub.rule("invoke", "hang")
    with traffic(lambda _: yard.invoke(), threads=1) as seen:
        stub.wait_for("invoke")
        config = yard.config(yard.variant(variables={"NEW": "1"}))
        yard.sagemaker.update_endpoint(EndpointName="ep", EndpointConfigName=config)
        until(lambda: yard.describe()["EndpointConfigName"] == config)
        assert yard.status() == "Updating"
        stub.release()
        yard.wait("endpoint_in_service")
        seen.more()
    seen.check()
    assert len({reply.json["pid"] for reply in seen.replies}) == 2


def test_a_request_whose_container_dies_during_an_update_is_answered_by_the_new_ones(
    yard: Yard,
) -> None:
    yard.endpoint()
    (stub,) = yard.stubs()
    stub.rule("invoke", "hang")
    with traffic(lambda _: yard.invoke(), threads=1) as seen:
        stub.wait_for("invoke")
        config = yard.config(yard.variant(variables={"NEW": "1"}))
        yard.sagemaker.update_endpoint(EndpointName="ep", EndpointConfigName=config)
        until(lambda: yard.describe()["EndpointConfigName"] == config)
        stub.exit(1)
        yard.wait("endpoint_in_service")
        seen.more(1)
    seen.check()


def test_an_update_goes_from_many_models_to_one_and_back(yard: Yard) -> None:
    path = yard.models / "m.tar.gz"
    yard.endpoint()
    yard.update(yard.variant(mode="SingleModel", data=f"file://{path}"))
    assert yard.invoke(None, "one").json["body"] == "one"
    yard.update(yard.variant())
    assert yard.invoke().json["says"] == "hello"


@pytest.mark.parametrize("instances", [1, 2])
def test_an_update_that_fails_rolls_back_and_says_why(yard: Yard, instances: int) -> None:
    yard.endpoint(yard.variant(instances=instances))
    before = sorted(yard.processes())
    config = yard.describe()["EndpointConfigName"]
    with traffic(lambda _: yard.invoke()) as seen:
        yard.update(yard.variant(), yard.variant("bad", variables=environment(exits=3)))
        seen.more()
    seen.check()
    described = yard.describe()
    assert "exited with code 3" in described["FailureReason"]
    assert described["EndpointConfigName"] == config
    assert sorted(yard.processes()) == before
    assert [e["text"].split(":")[0] for e in yard.events("endpoint_status")][-2:] == [
        "RollingBack",
        "InService",
    ]
    yard.update(yard.variant())
    assert "FailureReason" not in yard.describe()
