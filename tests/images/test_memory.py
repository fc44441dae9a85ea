"""The container's memory limit is the server's: models leave or are refused, nobody is killed."""

from __future__ import annotations

from pathlib import Path

from tests.images.conftest import Client, Runs

MEMORY = ("--memory", "600m", "--memory-swap", "600m")

# Pages that several processes could share count for the container, but no limit of a process and
# no measure of its private memory knows them: the kernel has to act.
HUNGRY = """
import mmap

def model_fn(model_dir):
    return None

def transform_fn(model, body, content_type, accept):
    pages = mmap.mmap(-1, 4 << 30)
    for start in range(0, 4 << 30, 4096):
        pages[start] = 1
    return "there was enough"
"""


def test_a_load_that_does_not_fit_is_507_where_the_platform_decides(
    image: str, runs: Runs, client: Client, models: Path
) -> None:
    container = runs(
        image, *MEMORY, models=models, variables={"MODELYARD_EVICTION_POLICY": "platform"}
    )
    endpoint = client(container)
    loaded: list[str] = []
    while (answer := endpoint.load("allocates_100mb", f"large-{len(loaded)}")).status_code == 200:
        loaded.append(f"large-{len(loaded)}")
        assert len(loaded) < 6, "more than there is"
    assert answer.status_code == 507, answer.text
    assert loaded
    for name in loaded:
        assert endpoint.invoke(name).status_code == 200
    assert endpoint.unload(loaded[0]).status_code == 200
    assert endpoint.load("allocates_100mb", "another").status_code == 200
    assert container.stop() == 0


def test_more_models_than_memory_are_served(
    image: str, runs: Runs, client: Client, models: Path
) -> None:
    container = runs(image, *MEMORY, models=models)
    endpoint = client(container)
    names = [endpoint.loaded("allocates_100mb") for _ in range(10)]
    for name in names:
        answer = endpoint.invoke(name)
        assert answer.status_code == 200, answer.text
    assert endpoint.names() == set(names)
    assert container.stop() == 0


def test_a_process_that_the_kernel_kills_takes_nobody_with_it(
    image: str, runs: Runs, client: Client, models: Path
) -> None:
    (models / "hungry" / "code").mkdir(parents=True)
    (models / "hungry" / "code" / "inference.py").write_text(HUNGRY)
    container = runs(image, *MEMORY, models=models)
    endpoint = client(container)
    other = endpoint.loaded("echo")
    assert endpoint.load_url("hungry", str(models / "hungry")).status_code == 200
    answer = endpoint.invoke("hungry")
    assert answer.status_code >= 500, answer.text
    assert "memory" in answer.text.lower(), answer.text
    assert container.state("Status") == "running"
    assert container.ping() == 200
    assert endpoint.invoke(other, b"hello").content == b"hello"
    assert container.stop() == 0
