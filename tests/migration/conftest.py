"""A server that old archives are put before, unchanged."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import httpx
import pytest

from ..contract.conftest import multi_model
from ..contract.endpoint import path_of
from ..contract.server import OwnServer, start, stop_cleanly, wait_until_healthy

Files = Mapping[str, str | bytes]
WAIT_SECONDS = 60.0

_numbers = count(1)


@dataclass(frozen=True)
class Old:
    """Archives on a server, each under a name of its own."""

    server: OwnServer
    client: httpx.Client
    loaded: list[str]

    def put(self, files: Files) -> Path:
        """A directory with what was in an archive."""
        folder = self.server.models_dir / f"m{next(_numbers)}"
        for file, content in files.items():
            path = folder / file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content.encode() if isinstance(content, str) else content)
        return folder

    def try_to_load(self, files: Files) -> httpx.Response:
        """What the server answers to the load, with the model's name in ``loaded``."""
        folder = self.put(files)
        self.loaded.append(folder.name)
        body = {"model_name": folder.name, "url": str(folder)}
        return self.client.post("/models", json=body)

    def load(self, files: Files) -> str:
        """The name under which an archive is now loaded."""
        answer = self.try_to_load(files)
        assert answer.status_code == 200, answer.text
        return self.loaded[-1]

    def refused(self, files: Files) -> str:
        """Why an archive does not load."""
        answer = self.try_to_load(files)
        assert answer.status_code == 400, answer.text
        return str(answer.json()["message"])

    def told(self, name: str) -> dict[str, Any]:
        """What the server says of a model."""
        answer = self.client.get(path_of(name))
        assert answer.status_code == 200, answer.text
        told: dict[str, Any] = answer.json()
        return told

    def invoke(
        self, name: str, body: bytes | str, content_type: str = "application/json", **headers: str
    ) -> httpx.Response:
        """The answer of a model, whatever it is."""
        named = {key.replace("_", "-"): value for key, value in headers.items()}
        content = body.encode() if isinstance(body, str) else body
        url = path_of(name) + "/invoke"
        return self.client.post(
            url, content=content, headers={"Content-Type": content_type, **named}
        )

    def answer(self, name: str, document: Any) -> Any:
        """The JSON that a model answers a JSON document with."""
        answer = self.invoke(name, json.dumps(document))
        assert answer.status_code == 200, answer.text
        return answer.json()

    def together(self, name: str, documents: list[Any]) -> list[Any]:
        """The answers to requests that are sent at once."""
        with ThreadPoolExecutor(len(documents)) as pool:
            return list(pool.map(lambda document: self.answer(name, document), documents))

    def unload_all(self) -> None:
        for name in self.loaded:
            self.client.delete(path_of(name))
        self.loaded.clear()


def _serving(folder: Path, settings: Mapping[str, str]) -> Iterator[OwnServer]:
    models_dir = folder / "models"
    models_dir.mkdir()
    server = start(models_dir, folder / "serve.log", {**multi_model(models_dir), **settings})
    try:
        wait_until_healthy(server)
        yield server
        stop_cleanly(server)
    finally:
        server.kill()


def _old(server: OwnServer) -> Iterator[Old]:
    with httpx.Client(base_url=server.base_url, timeout=WAIT_SECONDS) as client:
        old = Old(server, client, [])
        yield old
        old.unload_all()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OwnServer]:
    """One server for all archives of a module."""
    yield from _serving(tmp_path_factory.mktemp("migration"), {})


@pytest.fixture
def old(server: OwnServer) -> Iterator[Old]:
    """Old archives on the shared server; what a test loads is unloaded after it."""
    yield from _old(server)


@pytest.fixture
def old_with(tmp_path: Path) -> Iterator[Callable[[Mapping[str, str]], Old]]:
    """``old_with({"TS_...": "2"})`` is a server of its own with these variables."""
    open_: list[Iterator[Any]] = []

    def make(settings: Mapping[str, str]) -> Old:
        serving = _serving(tmp_path, settings)
        open_.append(serving)
        using = _old(next(serving))
        open_.append(using)
        return next(using)

    yield make
    for each in reversed(open_):
        next(each, None)
