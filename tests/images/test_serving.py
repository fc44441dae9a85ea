"""Containers of the image do what the platform asks of them."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from examples.archives import SampleRequest, extract, pack
from tests.contract.polling import eventually
from tests.images.conftest import Client, Runs
from tests.images.containers import Container
from tests.podman import ROOT

LOADS = 1000
AT_ONCE = 4

# Processes in the container and how many of them are zombies, without the one that counts.
COUNT = """
import os
states = []
for pid in filter(str.isdecimal, os.listdir("/proc")):
    try:
        stat = open(f"/proc/{pid}/stat").read()
    except OSError:
        continue
    if int(pid) != os.getpid():
        states.append(stat.rpartition(")")[2].split()[0])
print(len(states), states.count("Z"))
"""


@pytest.fixture(scope="module")
def iris(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with one model, ``iris``, of scikit-learn."""
    pytest.importorskip("sklearn")
    directory = tmp_path_factory.mktemp("iris")
    pack("iris_sklearn", directory / "iris.tar.gz")
    extract(directory / "iris.tar.gz", directory / "models", "iris")
    return directory / "models"


def processes(container: Container) -> tuple[int, int]:
    """How many there are in it, and how many of them are zombies."""
    running, zombies = map(int, container.python(COUNT).split())
    return running, zombies


def test_a_model_is_loaded_used_listed_and_unloaded(
    sklearn_image: str, iris: Path, runs: Runs, client: Client
) -> None:
    container = runs(sklearn_image, "--volume", f"{iris}:/opt/ml/models:ro")
    endpoint = client(container)
    assert endpoint.ping().status_code == 200
    assert endpoint.load_url("iris", "/opt/ml/models/iris/model").status_code == 200
    sample = SampleRequest.of("iris_sklearn")
    answer = endpoint.invoke(
        "iris", sample.path.read_bytes(), {"Content-Type": sample.content_type}
    )
    assert answer.status_code == 200, answer.text
    assert len(answer.text.split()) == len(sample.path.read_text().split())
    assert endpoint.names() == {"iris"}
    assert endpoint.unload("iris").status_code == 200
    assert endpoint.names() == set()
    assert container.stop() == 0


def test_it_listens_where_the_platform_says(image: str, runs: Runs) -> None:
    container = runs(image, port=9443, variables={"SAGEMAKER_BIND_TO_PORT": "9443"})
    assert container.is_healthy(), container.log()


def test_it_serves_the_one_model_at_opt_ml_model(image: str, runs: Runs, models: Path) -> None:
    shutil.copytree(ROOT / "tests" / "models" / "echo", models / "echo")
    mount = ("--volume", f"{models / 'echo'}:/opt/ml/model:ro")
    container = runs(image, *mount, variables={"SAGEMAKER_MULTI_MODEL": "false"})
    assert container.is_healthy(), container.log()
    assert httpx.post(f"{container.url}/invocations", content=b"hello").content == b"hello"


@pytest.mark.parametrize(
    "options",
    [
        ("--read-only", "--tmpfs", "/tmp"),
        ("--user", "1000:1000", "--cap-drop", "all", "--security-opt", "no-new-privileges"),
        ("--user", "4321:0", "--cap-drop", "all", "--read-only", "--tmpfs", "/tmp"),
    ],
    ids=["read-only", "non-root", "both"],
)
def test_it_needs_no_rights(
    image: str, runs: Runs, client: Client, models: Path, options: tuple[str, ...]
) -> None:
    container = runs(image, *options, models=models)
    endpoint = client(container)
    assert endpoint.invoke(endpoint.loaded("echo"), b"hello").content == b"hello"
    assert container.stop() == 0


def test_it_needs_no_network(image: str, runs: Runs, models: Path) -> None:
    container = runs(image, models=models, network=False)
    shutil.copytree(ROOT / "tests" / "models" / "echo", models / "echo")
    ask = f"""
import json, time, urllib.error, urllib.request

def send(path, data=None):
    request = urllib.request.Request("http://127.0.0.1:8080" + path, data)
    return urllib.request.urlopen(request, timeout=60).read().decode()

for _ in range(600):
    try:
        send("/ping")
        break
    except (urllib.error.URLError, ConnectionError):
        time.sleep(0.1)
send("/models", json.dumps({{"model_name": "echo", "url": {str(models / "echo")!r}}}).encode())
print(send("/models/echo/invoke", b"hello"))
"""
    assert container.python(ask) == "hello", container.log()


def test_running_requests_are_answered_after_sigterm(
    image: str, runs: Runs, client: Client, models: Path
) -> None:
    container = runs(image, models=models)
    endpoint = client(container)
    busy = [endpoint.loaded("sleeps") for _ in range(AT_ONCE)]
    idle = endpoint.loaded("echo")
    with ThreadPoolExecutor(2 * AT_ONCE) as threads:
        asked = [threads.submit(endpoint.invoke, name, f"3 /tmp/{name}".encode()) for name in busy]
        begun = "import os; print(len([n for n in os.listdir('/tmp') if n.startswith('sleeps-')]))"
        assert eventually(lambda: container.python(begun) == str(AT_ONCE)), container.log()
        others = [threads.submit(_until_refused, endpoint.invoke, idle) for _ in range(AT_ONCE)]
        assert container.stop() == 0, container.log()
        assert [one.result().status_code for one in asked] == [200] * AT_ONCE
        for one in others:
            one.result()


def _until_refused(invoke: Callable[[str, bytes], httpx.Response], name: str) -> None:
    """Load, until nobody is there to take it; what is answered is answered right."""
    while True:
        try:
            answer = invoke(name, b"x" * 1000)
        except httpx.TransportError:
            return
        if answer.status_code != 200:
            assert answer.status_code == 503, answer.text
            return


def test_sigterm_counts_while_it_starts(image: str, runs: Runs) -> None:
    container = runs(image)
    assert container.stop() == 0
    assert "Killed" not in container.log()


def test_no_zombie_is_left_after_a_thousand_loads(
    image: str, runs: Runs, client: Client, models: Path
) -> None:
    container = runs(image, models=models)
    endpoint = client(container)
    endpoint.unload(endpoint.loaded("echo"))
    before, _ = processes(container)

    def loads(count: int) -> None:
        for _ in range(count):
            assert endpoint.unload(endpoint.loaded("echo")).status_code == 200

    with ThreadPoolExecutor(AT_ONCE) as threads:
        for one in [threads.submit(loads, LOADS // AT_ONCE) for _ in range(AT_ONCE)]:
            one.result()
    assert eventually(lambda: processes(container)[1] == 0), container.log()
    assert eventually(lambda: processes(container)[0] <= before), container.log()
    assert container.stop() == 0


def test_the_contract_suite_passes_against_it(image: str, runs: Runs, models: Path) -> None:
    container = runs(image, models=models, mode="rw")  # its models say there that they have begun
    assert container.is_healthy(), container.log()
    pytest_of = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/contract"]
    done = subprocess.run(
        [*pytest_of, "--base-url", container.url, "--models-dir", str(models)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-5000:]
    assert container.stop() == 0
