"""An engine that keeps what it has built, the images, and containers that go with their test."""

from __future__ import annotations

import fcntl
import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.contract.endpoint import Endpoint
from tests.images.build import build
from tests.images.containers import Container, run
from tests.podman import ROOT, Podman, podman

KEPT = ROOT / ".images"
KEPT_HOURS = 24 * 7
PLAIN, SKLEARN = "localhost/modelyard:test", "localhost/modelyard:test-sklearn"
UP, AS_DOCKER_NAMES_IT = "localhost/modelyard:test-up", "docker.io/library/modelyard:cpu"

Runs = Callable[..., Container]
Client = Callable[[Container], Endpoint]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """All are slow, and the first of them may have to wait for all builds."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.slow)
            item.add_marker(pytest.mark.timeout(1800))


@pytest.fixture(scope="session")
def engine() -> Iterator[Podman]:
    """One at a time: whoever tests beside us has the same storage."""
    KEPT.mkdir(exist_ok=True)
    with (KEPT / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        (KEPT / "podman.sock").unlink(missing_ok=True)
        with podman(KEPT) as running:
            yield running
            old = ("--filter", f"until={KEPT_HOURS}h")
            running.run("image", "prune", "--force", *old, within_seconds=300)


@pytest.fixture(scope="session")
def image(engine: Podman) -> str:
    """The server without frameworks."""
    build(engine, PLAIN)
    return PLAIN


@pytest.fixture(scope="session")
def sklearn_image(engine: Podman) -> str:
    """The server with scikit-learn."""
    build(engine, SKLEARN, "--extras", "sklearn")
    return SKLEARN


@pytest.fixture(scope="session")
def up_image(engine: Podman) -> Iterator[None]:
    """``modelyard:cpu`` for clients of Docker: with scikit-learn, and what an endpoint needs."""
    build(engine, UP, "--extras", "up,sklearn")
    engine.run("tag", UP, AS_DOCKER_NAMES_IT)
    yield
    engine.run("untag", AS_DOCKER_NAMES_IT)


@pytest.fixture
def inspect(engine: Podman) -> Callable[[str], dict[str, Any]]:
    """What the engine knows of an image."""

    def look(name: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(engine.run("image", "inspect", name))[0]
        return found

    return look


@pytest.fixture
def runs(engine: Podman) -> Iterator[Runs]:
    """Runs containers, with the options of ``containers.run``; they are gone after the test."""
    with ExitStack() as stack:

        def start(image: str, *options: str, **parts: Any) -> Container:
            made = run(engine, image, *options, **parts)
            stack.callback(engine.run, "rm", "--force", "--time", "0", made.name)
            return made

        yield start


@pytest.fixture
def models(tmp_path: Path) -> Path:
    """Where a test puts models."""
    made = tmp_path / "models"
    made.mkdir()
    return made


@pytest.fixture
def client(models: Path) -> Iterator[Client]:
    """Makes the client of a container, once that is healthy."""
    with ExitStack() as stack:

        def make(container: Container) -> Endpoint:
            assert container.is_healthy(), container.log()
            limits = httpx.Limits(max_connections=None, max_keepalive_connections=0)
            http = httpx.Client(base_url=container.url, timeout=60.0, limits=limits)
            return Endpoint(stack.enter_context(http), models)

        yield make
