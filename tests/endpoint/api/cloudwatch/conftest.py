"""A server whose metrics and clock are the test's, and a client for each protocol."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import botocore.session
import pytest
from botocore.config import Config
from botocore.loaders import Loader

from tests.endpoint.api.cloudwatch.metrics import Clock, Metrics
from tests.endpoint.api.running import RunningApi

# What tells a request of each protocol.
PROTOCOLS = {"smithy-rpc-v2-cbor": "smithy-protocol", "json": "X-Amz-Target", "query": ""}


@pytest.fixture(scope="module")
def metrics(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Metrics]:
    clock = Clock()
    running = RunningApi(tmp_path_factory.mktemp("cloudwatch"), clock=clock)
    yield Metrics(running, clock)
    running.close()


@pytest.fixture(scope="session")
def sessions(tmp_path_factory: pytest.TempPathFactory) -> dict[str, boto3.Session]:
    """Of boto3, each of which knows CloudWatch as a service of one protocol."""
    return {
        protocol: _session(protocol, tmp_path_factory.mktemp(protocol)) for protocol in PROTOCOLS
    }


def _session(protocol: str, directory: Path) -> boto3.Session:
    model = Loader().load_service_model("cloudwatch", "service-2")
    model["metadata"] |= {"protocol": protocol, "protocols": [protocol]}
    if protocol == "query":
        model["metadata"].pop("awsQueryCompatible", None)
    path = directory / "cloudwatch" / model["metadata"]["apiVersion"] / "service-2.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(model))
    core = botocore.session.Session()
    core.set_config_variable("data_path", str(directory))
    return boto3.Session("key", "secret", region_name="us-east-1", botocore_session=core)


@pytest.fixture(scope="module")
def clients(metrics: Metrics, sessions: dict[str, boto3.Session]) -> Iterator[dict[str, Any]]:
    config = Config(retries={"total_max_attempts": 1}, read_timeout=60, parameter_validation=False)
    found = {
        protocol: session.client("cloudwatch", endpoint_url=metrics.url, config=config)
        for protocol, session in sessions.items()
    }
    for protocol, client in found.items():
        client.meta.events.register("before-send.*.*", _checker(protocol))
    yield found
    for client in found.values():
        client.close()


def _checker(protocol: str) -> Any:
    def check(request: Any, **_: Any) -> None:
        seen = [name for name in PROTOCOLS.values() if name and name in request.headers]
        assert seen == [name for name in (PROTOCOLS[protocol],) if name]

    return check


@pytest.fixture(params=PROTOCOLS)
def cloudwatch(request: pytest.FixtureRequest, clients: dict[str, Any]) -> Any:
    """boto3's client, once by each protocol."""
    return clients[request.param]


@pytest.fixture
def client(clients: dict[str, Any]) -> Any:
    """boto3's client as it is today."""
    return clients["smithy-rpc-v2-cbor"]
