"""The endpoint as a whole: this installation's ``serve``, models in S3, what people see of it."""

from __future__ import annotations

import json
import os
import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
from botocore.exceptions import BotoCoreError

from tests.endpoint.containers.running import environment
from tests.endpoint.traffic import traffic
from tests.endpoint.user import until
from tests.endpoint.yard import SERVE, Yard

pytestmark = pytest.mark.usefixtures("aws_keys")


def test_models_of_a_bucket_are_served_by_name_by_this_installation(
    tmp_path: Path, s3_url: str
) -> None:
    with Yard(tmp_path, s3_url=s3_url, **SERVE) as yard:
        s3 = yard.client("s3", endpoint_url=s3_url)
        s3.create_bucket(Bucket="bucket")
        for model in ("echo", "reports_process", "raises_on_predict"):
            yard.add(f"{model}.tar.gz", model=model)
            s3.upload_file(str(yard.models / f"{model}.tar.gz"), "bucket", f"models/{model}.tar.gz")
        yard.endpoint(yard.variant(instances=2, data="s3://bucket/models/"))
        assert yard.invoke("echo.tar.gz", "hello").text == "hello"
        assert "pid" in yard.invoke("reports_process.tar.gz").json
        assert yard.code(lambda: yard.invoke("raises_on_predict.tar.gz"))[0] == "ModelError"
        assert yard.code(lambda: yard.invoke("none.tar.gz"))[0] == "ValidationError"
        assert yard.invoke("echo.tar.gz", "again").text == "again"


def test_a_bucket_that_is_not_there_is_an_error_when_the_model_is_created(
    tmp_path: Path, s3_url: str
) -> None:
    with Yard(tmp_path, s3_url=s3_url) as yard:
        code, message = yard.code(lambda: yard.variant(data="s3://no-such-bucket/models/"))
        assert code == "ValidationException"
        assert "Could not access model data at s3://no-such-bucket/models/" in message


def test_a_killed_serve_is_replaced_under_traffic_and_nothing_is_lost(tmp_path: Path) -> None:
    with Yard(tmp_path, **SERVE) as yard:
        for number in range(3):
            yard.add(f"{number}.tar.gz", model="echo")
        yard.endpoint(yard.variant(instances=2))
        with traffic(lambda number: yard.invoke(f"{number % 3}.tar.gz", str(number))) as seen:
            seen.more()
            record = yard.call(yard.state.instances.all)[0]
            os.kill(int(record.handle["pid"]), signal.SIGKILL)
            until(lambda: len(yard.events("instance_started")) == 3)
            seen.more()
        seen.check()


def test_requests_of_a_session_go_to_the_instance_that_began_it(tmp_path: Path) -> None:
    with Yard(tmp_path, **SERVE) as yard:
        yard.add("begins.tar.gz", model="sets_custom_attributes")
        yard.add("echo.tar.gz", model="echo")
        yard.endpoint(yard.variant(instances=2))
        yard.invoke("echo.tar.gz")
        header = {"X-Amzn-SageMaker-New-Session-Id": "abc; Expires=2999-01-01T00:00:00Z"}
        yard.invoke("begins.tar.gz", json.dumps(header), SessionId="NEW_SESSION")
        assert yard.loaded("begins.tar.gz") != yard.loaded("echo.tar.gz")
        assert yard.invoke("echo.tar.gz", "hello", SessionId="abc").text == "hello"
        assert set(yard.loaded("begins.tar.gz")) < set(yard.loaded("echo.tar.gz"))


def test_people_see_what_runs_and_what_has_happened(tmp_path: Path) -> None:
    with Yard(tmp_path) as yard:
        yard.add("m.tar.gz")
        yard.endpoint(yard.variant(instances=2, weight=2))
        yard.invoke()
        (endpoint,) = yard.seen()["endpoints"]
        assert (endpoint["name"], endpoint["status"]) == ("ep", "InService")
        (variant,) = endpoint["variants"]
        assert (variant["name"], variant["weight"], variant["desired_instances"]) == ("v", 2, 2)
        (one, two) = variant["instances"]
        assert {one["state"], two["state"]} == {"serving"}
        assert one["memory"]["used"] > 0
        (model,) = one["models"] + two["models"]
        assert (model["target"], model["state"], model["invokes"]) == ("m.tar.gz", "loaded", 1)
        kinds = [event["kind"] for event in yard.seen()["events"]]
        assert kinds == [
            *("instance_started", "instance_started", "endpoint_status"),
            *("download", "load"),
        ]


def test_people_see_models_that_are_only_on_disk_when_they_ask(tmp_path: Path) -> None:
    with Yard(tmp_path) as yard:
        for name in ("a", "b", "c"):
            yard.add(f"{name}.tar.gz")
        yard.endpoint(yard.variant(variables=environment(room=1)))
        for name in ("a", "b", "c"):
            yard.invoke(f"{name}.tar.gz")
        (seen,) = httpx.get(f"{yard.url}/status", trust_env=False).json()["endpoints"]
        (one,) = seen["variants"][0]["instances"]
        assert [model["target"] for model in one["models"]] == ["c.tar.gz"]
        assert one["disk"]["models"] == 3
        (one,) = yard.instances()
        assert {model["target"]: model["state"] for model in one["models"]} == {
            "a.tar.gz": "on_disk", "b.tar.gz": "on_disk", "c.tar.gz": "loaded"
        }  # fmt: skip


def test_people_see_instances_of_an_endpoint_that_is_created(tmp_path: Path) -> None:
    with Yard(tmp_path) as yard:
        yard.create(yard.variant(variables=environment(rules=[{"on": "ping", "do": "hang"}])))
        until(lambda: [one["state"] for one in yard.instances()] == ["starting"])


def test_the_end_stops_all_instances_also_those_that_come_or_go(tmp_path: Path) -> None:
    hangs = environment(rules=[{"on": "ping", "do": "hang"}])
    with ThreadPoolExecutor(1) as threads, Yard(tmp_path) as yard:
        yard.add("m.tar.gz")
        yard.create(yard.variant(variables=hangs), name="creating")
        yard.endpoint(name="updating")
        config = yard.config(yard.variant(variables=hangs))
        yard.sagemaker.update_endpoint(EndpointName="updating", EndpointConfigName=config)
        yard.endpoint(name="replaced")
        (stub,) = yard.stubs("replaced")
        stub.rule("invoke", "hang")
        running = threads.submit(yard.code, lambda: yard.invoke(name="replaced"))
        stub.wait_for("invoke")
        config = yard.config()
        yard.sagemaker.update_endpoint(EndpointName="replaced", EndpointConfigName=config)
        until(lambda: yard.describe("replaced")["EndpointConfigName"] == config)
        until(lambda: len(yard.processes()) == 5)
    assert yard.processes() == []
    assert isinstance(running.exception(), BotoCoreError)  # the connection was closed
