"""AWS multi-model-server as a container: what the endpoint asks of one, asked of the original.

At first by the endpoint's client alone, then by a whole endpoint that has it as its instances.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import signal
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import httpx
import pytest
from botocore.exceptions import ClientError

from benchmarks.servers import ROOT, Server, multi_model_server
from endpoint.instances.container_client import Answer, ContainerClient
from endpoint.instances.health import look
from tests.endpoint.instances.clients import with_client
from tests.endpoint.traffic import traffic
from tests.endpoint.user import User, until
from tests.endpoint.yard import Child, Yard

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]  # the first time it is installed

INSTALL = ROOT / "benchmarks" / "mms" / "install"
PYTHON = ROOT / ".venv-mms" / "bin" / "python"
START = ROOT / "tests" / "endpoint" / "containers" / "multi_model_server.py"
HANDLERS = ROOT / "benchmarks" / "mms"
ECHO = ROOT / "tests" / "models" / "echo"
LOAD_SECONDS = 60.0
INVOKE_SECONDS = 60.0
PAGE = 100  # of its list


@pytest.fixture(scope="module")
def installed() -> None:
    """There is a multi-model-server; skipped where it cannot be had."""
    done = subprocess.run([INSTALL], stderr=subprocess.PIPE, text=True, check=False)
    if done.returncode != 0:
        pytest.skip(f"no multi-model-server: {done.stderr.strip()}")


@pytest.fixture(scope="module")
def server(installed: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A running multi-model-server."""
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


# --- as instances of an endpoint ----------------------------------------------------------------


@pytest.fixture
def settings(installed: None, tmp_path: Path) -> dict[str, Any]:
    """Of an endpoint whose instances are multi-model-servers."""
    scratch = tmp_path / "servers"
    scratch.mkdir()
    handler = f"{HANDLERS / 'mms_handler.py'}:handle"
    command = ["env", f"PYTHONPATH={HANDLERS}", PYTHON, START, handler, scratch]
    return {
        "local_command": shlex.join(map(str, command)),
        "probe_interval_seconds": 1.0,
        "stop_timeout_seconds": 20.0,
        "invoke_timeout_seconds": INVOKE_SECONDS,
    }


@pytest.fixture
def yard(tmp_path: Path, settings: Mapping[str, Any]) -> Iterator[Yard]:
    """An endpoint's process, as yet without an endpoint."""
    with Yard(tmp_path, **settings) as started:
        yield started
        faults = started.faults
    assert not faults


def add(user: User, *names: str, model: str = "echo") -> None:
    for name in names:
        user.add(name, model=model)


def listed(user: User) -> list[set[str]]:
    """The directories of the models that each server says it has."""
    answers = [httpx.get(f"{one['url']}/models").json() for one in user.instances()]
    return [{entry["modelUrl"] for entry in answer["models"]} for answer in answers]


def loaded(user: User, *names: str) -> list[str]:
    return [name for name in names if user.loaded(name)]


def servers(user: User) -> list[int]:
    """The processes that are Java."""
    return [pid for pid in user.processes() if Path(f"/proc/{pid}/comm").read_text() == "java\n"]


def failure(user: User, name: str) -> tuple[str, int, str]:
    """Code, status and words of the error that an invoke ends with."""
    with pytest.raises(ClientError) as caught:
        user.invoke(name)
    told: Any = caught.value.response
    return told["Error"]["Code"], told.get("OriginalStatusCode"), told.get("OriginalMessage")


def test_models_of_an_endpoint_are_loaded_and_invoked(yard: Yard) -> None:
    names = ["a.tar.gz", "team/b.tar.gz", "c.tar.gz"]
    add(yard, *names)
    yard.endpoint()
    assert listed(yard) == [set()]
    for name in [*names, *names]:
        assert yard.invoke(name, body=f"hello {name}").text == f"hello {name}"
    assert loaded(yard, *names) == names
    (directories,) = listed(yard)
    ids = {model["id"] for one in yard.instances() for model in one["models"]}
    assert {Path(directory).parent.name for directory in directories} == ids
    assert len(yard.events("load")) == 3
    yard.delete()
    assert yard.processes() == []


def test_models_that_do_not_load_or_answer_are_told_in_its_words(yard: Yard) -> None:
    add(yard, "loads-not", model="raises_on_load")
    add(yard, "answers-not", model="raises_on_predict")
    add(yard, "dies", model="os_exits_on_predict")
    add(yard, "good")
    yard.endpoint()
    code, status, words = failure(yard, "loads-not")
    assert (code, status) == ("ModelError", 500)
    assert json.loads(words)["message"] == "Failed to start workers"
    code, status, words = failure(yard, "answers-not")
    assert (code, status) == ("ModelError", 500)
    assert "raised while the request was handled" in words
    code, status, words = failure(yard, "dies")
    assert (code, status) == ("ModelError", 500)
    assert "Worker died" in words
    assert yard.invoke("good", body="still").text == "still"
    assert yard.events("instance_lost") == []


def test_a_model_that_it_has_no_memory_for_is_loaded_when_another_has_left(
    yard: Yard, tmp_path: Path
) -> None:
    slots = tmp_path / "slots"
    slots.mkdir()
    for number in range(2):
        (slots / str(number)).touch()
    add(yard, *"abc", model="needs_a_slot")
    add(yard, "never", model="memory_error_on_load")
    yard.endpoint(yard.variant(variables={"SLOTS": str(slots)}))
    for name in "abcab":  # each comes for the least recently used one
        assert yard.invoke(name, body=name).text == name
    assert [event["target"] for event in yard.events("unload")] == [*"abc"]
    assert failure(yard, "never")[:2] == ("ModelError", 507)
    assert yard.invoke("c", body="c").text == "c"


def test_a_model_that_was_taken_from_it_is_loaded_again(yard: Yard) -> None:
    add(yard, "m")
    yard.endpoint()
    yard.invoke("m")
    (one,) = yard.instances()
    (model,) = one["models"]
    assert httpx.delete(f"{one['url']}/models/{model['id']}").status_code == 200
    assert yard.invoke("m", body="again").text == "again"
    assert len(yard.events("load")) == 2


def test_models_that_are_not_kept_leave_it_and_the_disk(yard: Yard) -> None:
    add(yard, *"abc")
    yard.endpoint(yard.variant(keeps=False))
    for name in "abca":
        assert yard.invoke(name, body=name).text == name
    until(lambda: len(yard.events("delete")) == 4)
    until(lambda: [one["models"] for one in yard.instances()] == [[]])
    assert listed(yard) == [set()]


def test_capacity_goes_up_and_down_and_no_request_fails(yard: Yard) -> None:
    add(yard, *"abcd")
    yard.endpoint()
    with traffic(lambda number: yard.invoke("abcd"[number % 4]), threads=2) as seen:
        seen.more()
        yard.resize(2)
        assert len(servers(yard)) == 2
        seen.more()
        yard.resize(1)
        seen.more()
    seen.check()
    assert len(servers(yard)) == 1


def test_one_that_dies_is_replaced_on_its_disk(yard: Yard) -> None:
    add(yard, "m")
    yard.endpoint()
    yard.invoke("m")
    (server,) = servers(yard)
    os.kill(server, signal.SIGKILL)
    until(lambda: yard.events("instance_lost"))
    assert yard.invoke("m", body="back").text == "back"
    assert servers(yard) != [server]
    assert len(yard.events("download")) == 1


def test_a_killed_endpoint_finds_it_again_and_one_that_is_stopped_leaves_no_process(
    tmp_path: Path, settings: Mapping[str, Any]
) -> None:
    with Child(tmp_path, **settings) as child:
        add(child, *"ab", model="reports_process")
        child.endpoint()
        before = [child.invoke(name).json["pid"] for name in "ab"], servers(child)
        child.kill()
        child.start()
        assert ([child.invoke(name).json["pid"] for name in "ab"], servers(child)) == before
        assert child.events("load") == []
        child.stop()
        assert child.processes() == []
