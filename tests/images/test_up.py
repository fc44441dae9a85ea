"""``modelyard up --image``: a folder of archives, served by containers of the image."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.images.base import base_image
from tests.modelyard.shell import Shell
from tests.podman import Podman

# As short as can be seen: its tag says nothing new, its build does.
AGAIN = "FROM {image}\nLABEL test.build={number}\n"
NAME = "localhost/modelyard:test-of-up"


@pytest.fixture
def shell(tmp_path: Path, engine: Podman) -> Iterator[Shell]:
    """One whose containers are gone after the test."""
    shell = Shell(tmp_path)
    yield shell
    if shell.data.is_ours:
        done = shell.run("down")
        assert done.returncode == 0, done.stderr
    assert shell.processes() == []
    assert containers(engine, shell) == {}


def containers(engine: Podman, shell: Shell) -> dict[str, str]:
    """Those of the shell's endpoint: id and image."""
    label = f"label=modelyard.directory={shell.data.path}"
    listed = engine.run("ps", "--all", "--format", "{{.ID}} {{.Image}} {{.Labels}}")
    assert label
    return {
        line.split()[0]: line.split()[1] for line in listed.splitlines() if str(shell.data.path) in line
    }
