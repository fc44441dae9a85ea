"""AWS multi-model-server as a container: what the endpoint asks of one, asked of the original."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from benchmarks.servers import ROOT, Server, multi_model_server
from endpoint.instances.container_client import Answer, ContainerClient
from endpoint.instances.health import look
from tests.endpoint.instances.clients import with_client

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]  # the first time it is installed

INSTALL = ROOT / "benchmarks" / "mms" / "install"
ECHO = ROOT / "tests" / "models" / "echo"
LOAD_SECONDS = 60.0
INVOKE_SECONDS = 60.0
PAGE = 100  # of its list


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A running multi-model-server; skipped where it cannot be had."""
    installed = subprocess.run([INSTALL], stderr=subprocess.PIPE, text=True, check=False)
    if installed.returncode != 0:
        pytest.skip(f"no multi-model-server: {installed.stderr.strip()}")
    with Server(multi_model_server(), tmp_path_factory.mktemp("mms") / "server") as running:
        yield running


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A model's directory, as the endpoint would have put it there."""
    return Path(shutil.copytree(ECHO, tmp_path / "model"))


async def load(client: ContainerClient, model_id: str, directory: Path) -> Answer:
    return await client.load(model_id, str(directory), f"{model_id}.tar.gz", LOAD_SECONDS)


async def unload(client: ContainerClient, model_id: str) -> Answer:
    return await client.unload(model_id, f"{model_id}.tar.gz", LOAD_SECONDS)


def test_a_new_server_is_healthy_and_lists_nothing(server: Server) -> None:
    async def ask(client: ContainerClient) -> dict[str, str]:
        return await look(client, multi_model=True)

    assert with_client(server.url, ask) == {}


def test_a_model_is_loaded_listed_invoked_and_unloaded(server: Server, model: Path) -> None:
    async def ask(client: ContainerClient) -> Answer:
        assert (await load(client, "m", model)).status == 200
        assert (await load(client, "m", model)).status == 409
        assert await client.list_models() == {"m": str(model)}
        headers = (("Content-Type", "text/csv"), ("Accept", "text/csv"))
        answer = await client.invoke("m", headers, b"1,2,3", INVOKE_SECONDS)
        assert (await unload(client, "m")).status == 200
        assert await client.list_models() == {}
        return answer

    answer = with_client(server.url, ask)
    assert (answer.status, answer.body) == (200, b"1,2,3")
    assert {name.lower(): value for name, value in answer.headers}["content-type"] == "text/csv"


def test_a_model_that_is_not_loaded_is_404(server: Server) -> None:
    async def ask(client: ContainerClient) -> list[Answer]:
        return [await client.invoke("n", (), b"", INVOKE_SECONDS), await unload(client, "n")]

    for answer in with_client(server.url, ask):
        assert answer.status == 404
        assert "not found" in answer.text.lower()


def test_a_directory_without_a_model_fails_to_load_and_is_not_listed(
    server: Server, tmp_path: Path
) -> None:
    async def ask(client: ContainerClient) -> Answer:
        answer = await load(client, "none", tmp_path / "missing")
        assert await client.list_models() == {}
        return answer

    answer = with_client(server.url, ask)
    assert answer.status in (400, 404, 500)
    assert answer.text


def test_a_full_page_of_its_list_is_followed_by_an_empty_one(server: Server, model: Path) -> None:
    names = [f"m{number}" for number in range(PAGE)]
    for name in names:  # without processes, which the platform cannot ask for
        body = {"model_name": name, "url": str(model), "initial_workers": 0}
        assert httpx.post(f"{server.url}/models", json=body).status_code == 200
    first = httpx.get(f"{server.url}/models").json()
    assert (len(first["models"]), first["nextPageToken"]) == (PAGE, str(PAGE))

    async def ask(client: ContainerClient) -> dict[str, str]:
        listed = await client.list_models()
        for name in listed:
            await unload(client, name)
        assert await client.list_models() == {}
        return listed

    assert with_client(server.url, ask) == dict.fromkeys(names, str(model))
