"""``modelyard up --image``: a folder of archives, served by containers of an image."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.contract.polling import eventually
from tests.images.base import base_image
from tests.modelyard.shell import Shell
from tests.podman import Podman

NAME = "localhost/modelyard:test-of-up"

Build = Callable[[int], None]


@pytest.fixture
def shell(tmp_path: Path, engine: Podman) -> Iterator[Shell]:
    """Its processes and containers are gone after the test."""
    shell = Shell(tmp_path)
    yield shell
    if shell.data.is_ours:
        done = shell.run("down")
        assert done.returncode == 0, done.stderr
    assert shell.processes() == []
    assert containers(engine, shell) == []


@pytest.fixture
def build(engine: Podman, image: str, tmp_path: Path) -> Iterator[Build]:
    """Makes another build of the image under ``NAME``."""
    directory = tmp_path / "image"
    directory.mkdir()

    def make(number: int) -> None:
        (directory / "Dockerfile").write_text(f"FROM {image}\nLABEL number={number}\n")
        engine.run("build", "--pull=never", "--tag", NAME, str(directory))

    yield make
    engine.run("rmi", "--force", NAME)


def containers(engine: Podman, shell: Shell) -> list[dict[str, str]]:
    """The labels of the shell's containers, ended ones too."""
    label = ("--filter", "label=modelyard.directory", "--format", "json")
    found = [one["Labels"] for one in json.loads(engine.run("ps", "--all", *label) or "[]")]
    above = shell.directory
    return [one for one in found if above in Path(one["modelyard.directory"]).parents]


def test_a_folder_is_served_by_containers_of_the_image_until_down(
    engine: Podman, shell: Shell, build: Build
) -> None:
    build(1)
    asked = ("--no-s3", "--models", "models", "--image", NAME, "--docker-url", engine.url)
    shell.up(*asked)
    answer = shell.run("invoke", "models", "echo.tar.gz", "--data", "hi")
    assert (answer.stdout, answer.returncode) == ("hi", 0), answer.stderr
    (one,) = containers(engine, shell)
    assert one["number"] == "1"
    shell.up(*asked)
    assert containers(engine, shell) == [one]
    build(2)  # under the same name, as after a change of the code
    done = shell.run("up", "--detach", *asked)
    assert done.returncode == 0 and "updating endpoint models" in done.stderr, done.stderr
    assert shell.run("invoke", "models", "echo.tar.gz", "--data", "2").stdout == "2"
    assert eventually(lambda: [one["number"] for one in containers(engine, shell)] == ["2"])
    assert shell.run("down").returncode == 0
    assert containers(engine, shell) == []


def test_an_image_that_cannot_serve_is_told_before_anything_starts(
    engine: Podman, shell: Shell
) -> None:
    for image, problem, help in (
        ("localhost/none:1", "is not on this machine, and cannot be pulled", "--tag names it"),
        (base_image(engine), "multi-models=true Docker label", "`./scripts/image cpu` builds one"),
    ):
        asked = ("--no-s3", "--models", "models", "--image", image, "--docker-url", engine.url)
        done = shell.run("up", "--detach", *asked)
        assert (done.returncode, done.stdout) == (2, "")
        assert image in done.stderr and problem in done.stderr and help in done.stderr
        assert "Traceback" not in done.stderr
        assert not shell.data.path.exists()
