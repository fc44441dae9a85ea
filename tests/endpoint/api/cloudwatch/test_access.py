"""Requests to CloudWatch against an access file, by each protocol."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from tests.endpoint.api.cloudwatch.conftest import PROTOCOLS
from tests.endpoint.api.running import RunningApi

KEYS: list[dict[str, Any]] = [
    {"access_key_id": "AKALL"},
    {"access_key_id": "AKLIST", "actions": ["cloudwatch:List*"]},
    {"access_key_id": "AKSAGEMAKER", "actions": ["sagemaker:*"]},
    {"access_key_id": "AKMODELS", "target_models": ["*"]},
]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningApi]:
    directory = tmp_path_factory.mktemp("access")
    file = directory / "access.json"
    file.write_text(json.dumps({"keys": [{**key, "secret_access_key": "secret"} for key in KEYS]}))
    running = RunningApi(directory, access_file=str(file))
    yield running
    running.close()


@pytest.fixture(params=PROTOCOLS)
def session(request: pytest.FixtureRequest, sessions: dict[str, boto3.Session]) -> boto3.Session:
    return sessions[request.param]


def asked(server: RunningApi, session: boto3.Session, key: str, secret: str = "secret") -> str:
    """ "" where ListMetrics may be asked, else the error's code."""
    client = session.client(
        "cloudwatch",
        endpoint_url=server.url,
        aws_access_key_id=key,
        aws_secret_access_key=secret,
        config=Config(retries={"total_max_attempts": 1}, read_timeout=60),
    )
    with closing(client):
        try:
            client.list_metrics()
        except ClientError as error:
            assert error.response["ResponseMetadata"]["HTTPStatusCode"] == 403
            return str(error.response["Error"]["Code"])
        return ""


def test_who_may_ask(server: RunningApi, session: boto3.Session) -> None:
    assert asked(server, session, "AKALL") == ""
    assert asked(server, session, "AKLIST") == ""
    assert asked(server, session, "AKSAGEMAKER") == "AccessDenied"
    assert asked(server, session, "AKMODELS") == "AccessDenied"


def test_who_is_nobody(server: RunningApi, session: boto3.Session) -> None:
    assert asked(server, session, "AKOTHER") == "InvalidClientTokenId"
    assert asked(server, session, "AKALL", "wrong") == "SignatureDoesNotMatch"


def test_the_action_is_cloudwatchs(server: RunningApi, sessions: dict[str, boto3.Session]) -> None:
    client = sessions["json"].client(
        "cloudwatch",
        endpoint_url=server.url,
        aws_access_key_id="AKLIST",
        aws_secret_access_key="secret",
    )
    with closing(client), pytest.raises(ClientError) as raised:
        client.get_metric_data(MetricDataQueries=[], StartTime=0, EndTime=60)
    assert "not authorized to perform: cloudwatch:GetMetricData on resource: *" in str(raised.value)


def test_a_signature_for_another_service_is_none(server: RunningApi) -> None:
    client = server.client("sagemaker", key="AKALL")
    assert client.list_models()["Models"] == []
    client.meta.events.register("before-sign.*.*", lambda request, **_: _to(request, "monitoring"))
    with pytest.raises(ClientError) as raised:
        client.list_models()
    assert "scoped to correct service: 'sagemaker'" in str(raised.value)


def _to(request: Any, service: str) -> None:
    request.context["signing"] = {**request.context.get("signing", {}), "signing_name": service}
