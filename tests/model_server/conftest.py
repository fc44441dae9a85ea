"""Real servers, as the contract suite starts them."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ..contract.conftest import (  # noqa: F401 - fixtures
    base_url,
    endpoint_of,
    models_dir,
    serve,
    threads,
)
from ..contract.endpoint import Endpoint
from ..contract.server import OwnServer, Server, start, stop_cleanly, wait_until_healthy
from .http_server import echo_server, http  # noqa: F401 - fixtures

Yard = Callable[..., tuple[OwnServer, Endpoint]]

# One small zygote: importing torch for every server of these tests would take most of their time.
QUICK = {"SAGEMAKER_MULTI_MODEL": "true", "MODELYARD_PRELOAD": "python"}


@pytest.fixture
def short_path() -> Iterator[Path]:
    """Socket paths are limited, so pytest's own long ones would not do."""
    with tempfile.TemporaryDirectory(dir="/tmp") as path:
        yield Path(path)


@pytest.fixture
def yard(
    serve: Callable[..., OwnServer],  # noqa: F811
    endpoint_of: Callable[[Server], Endpoint],  # noqa: F811
    models_dir: Path,  # noqa: F811
) -> Yard:
    """Starts a fresh, healthy multi-model server with these settings."""

    def start_one(**settings: str) -> tuple[OwnServer, Endpoint]:
        own = serve(MODELYARD_MODEL_ROOTS=str(models_dir), **{**QUICK, **settings})
        wait_until_healthy(own)
        return own, endpoint_of(own)

    return start_one


@pytest.fixture(scope="session")
def session_server(
    base_url: str | None,  # noqa: F811
    models_dir: Path,  # noqa: F811
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[OwnServer]:
    """One server for all tests that leave it healthy, whatever they kill."""
    if base_url:
        pytest.skip("kills processes of the server, so it must be ours")
    models_dir.mkdir(exist_ok=True)
    settings = {
        **QUICK,
        "MODELYARD_MODEL_ROOTS": str(models_dir),
        "MODELYARD_GATEWAYS": "2",
        "MODELYARD_LOG_FORMAT": "json",
        "MODELYARD_ACCESS_LOG": "all",
    }
    own = start(models_dir, tmp_path_factory.mktemp("logs") / "shared.log", settings)
    try:
        wait_until_healthy(own)
        yield own
        stop_cleanly(own)
    finally:
        own.kill()


@pytest.fixture
def shared(
    session_server: OwnServer,
    endpoint_of: Callable[[Server], Endpoint],  # noqa: F811
) -> Iterator[tuple[OwnServer, Endpoint]]:
    """That server and its client; what a test loads is unloaded after it."""
    made = endpoint_of(session_server)
    yield session_server, made
    made.unload_all()
