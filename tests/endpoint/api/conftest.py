"""One server for the tests of a file; each test finds it empty."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.endpoint.api.running import RunningApi


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningApi]:
    running = RunningApi(tmp_path_factory.mktemp("api"), max_body_bytes=1 << 20)
    yield running
    running.close()


@pytest.fixture
def api(server: RunningApi) -> RunningApi:
    server.clear()
    return server


@pytest.fixture(scope="module")
def shared_sagemaker(server: RunningApi) -> Any:
    return server.client("sagemaker")


@pytest.fixture(scope="module")
def shared_runtime(server: RunningApi) -> Any:
    return server.client("sagemaker-runtime")


@pytest.fixture
def sagemaker(api: RunningApi, shared_sagemaker: Any) -> Any:
    """The control plane."""
    return shared_sagemaker


@pytest.fixture
def runtime(api: RunningApi, shared_runtime: Any) -> Any:
    """InvokeEndpoint."""
    return shared_runtime
