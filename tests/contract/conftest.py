"""The server under test and ways to talk to it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from itertools import count
from pathlib import Path

import httpx
import pytest

from .endpoint import Endpoint
from .raw import RawConnection
from .server import OwnServer, Server, start, stop_cleanly, wait_until_healthy


def multi_model(models_dir: Path) -> dict[str, str]:
    """The settings of a server for models that need nothing but Python."""
    return {
        "SAGEMAKER_MULTI_MODEL": "true",
        "MODELYARD_MODEL_ROOTS": str(models_dir),
        "MODELYARD_PRELOAD": "python",  # else frameworks warm up while tests count processes
    }


@pytest.fixture(scope="session")
def base_url(request: pytest.FixtureRequest) -> str | None:
    """The server that somebody else started, if any."""
    url: str | None = request.config.getoption("--base-url")
    return url.rstrip("/") if url else None


@pytest.fixture(scope="session")
def models_dir(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where models are put for the server to load; the only root it is told of."""
    given: Path | None = request.config.getoption("--models-dir")
    return given.resolve() if given else tmp_path_factory.mktemp("roots") / "models"


@pytest.fixture(scope="session")
def server(
    base_url: str | None, models_dir: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    """One server for all tests that leave it as they found it."""
    models_dir.mkdir(exist_ok=True)
    if base_url:
        other = Server(base_url, models_dir)
        assert other.ping_status() == 200, f"nobody healthy at {base_url}"
        yield other
        return
    settings = multi_model(models_dir)
    own = start(models_dir, tmp_path_factory.mktemp("logs") / "serve.log", settings)
    try:
        wait_until_healthy(own)
        yield own
        stop_cleanly(own)
    finally:
        own.kill()


@pytest.fixture
def own_server(server: Server) -> OwnServer:
    """The shared server, where a test must look at its processes."""
    if not isinstance(server, OwnServer):
        pytest.skip("looks into the server's processes, so it must be ours")
    return server


@pytest.fixture
def serve(
    base_url: str | None, models_dir: Path, tmp_path: Path
) -> Iterator[Callable[..., OwnServer]]:
    """Starts a fresh server with these settings; each must stop cleanly when the test ends."""
    if base_url:
        pytest.skip("starts servers of its own")
    models_dir.mkdir(exist_ok=True)
    numbers = count(1)
    with ExitStack() as stack:

        def start_one(**settings: str) -> OwnServer:
            own = start(models_dir, tmp_path / f"serve-{next(numbers)}.log", settings)
            stack.callback(stop_if_running, own)
            return own

        yield start_one


def stop_if_running(own: OwnServer) -> None:
    """Stop a server that its test has not stopped."""
    if own.process.poll() is None:
        stop_cleanly(own)
    own.kill()


@pytest.fixture
def serve_many(serve: Callable[..., OwnServer], models_dir: Path) -> Callable[..., OwnServer]:
    """Starts a fresh, healthy server in multi-model mode."""

    def start_one(**settings: str) -> OwnServer:
        own = serve(**{**multi_model(models_dir), **settings})
        wait_until_healthy(own)
        return own

    return start_one


@pytest.fixture
def endpoint_of() -> Iterator[Callable[[Server], Endpoint]]:
    """Makes the client of any server."""
    with ExitStack() as stack:

        def make(server: Server) -> Endpoint:
            limits = httpx.Limits(max_connections=None, max_keepalive_connections=0)
            client = httpx.Client(
                base_url=server.base_url, timeout=40.0, limits=limits, headers={"Accept": "*/*"}
            )
            return Endpoint(stack.enter_context(client), server.models_dir)

        yield make


@pytest.fixture
def endpoint(server: Server, endpoint_of: Callable[[Server], Endpoint]) -> Iterator[Endpoint]:
    """The client of the shared server; what a test loads is unloaded after it."""
    made = endpoint_of(server)
    yield made
    made.unload_all()


@pytest.fixture
def connect(server: Server) -> Iterator[Callable[[], RawConnection]]:
    """Opens bare connections to the shared server and closes them after the test."""
    with ExitStack() as stack:
        yield lambda: stack.enter_context(server.connect())


@pytest.fixture
def threads() -> Iterator[ThreadPoolExecutor]:
    """For requests that are to run at the same time."""
    with ThreadPoolExecutor(32) as pool:
        yield pool
