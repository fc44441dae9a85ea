"""Images built by ``scripts/image``, as people build them."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from tests.images.base import base_image
from tests.podman import ROOT, Podman

BUILD_SECONDS = 900.0
SOURCE = (
    *("archives", "container", "endpoint", "handlers", "model_server", "modelyard"),
    *("Dockerfile.cpu", "Dockerfile.gpu", ".dockerignore", "scripts", "LICENSE", "README.md"),
    *("pyproject.toml", "constraints.txt"),
)


def build(engine: Podman, tag: str, *options: str, device: str = "cpu", source: Path = ROOT) -> str:
    """Build on our base and return what was said; layers that are there already are used."""
    command = [
        *(str(source / "scripts" / "image"), device, "--tag", tag, "--base", base_image(engine)),
        *("--pull=never", "--network", "host", *options),
    ]
    done = subprocess.run(
        command,
        env={**engine.environment(), "CONTAINER_ENGINE": " ".join(engine.command())},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=BUILD_SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:]
    return done.stdout


def copy_of_source(directory: Path, names: Sequence[str] = SOURCE) -> Path:
    """What a build reads, to be changed."""
    for name in names:
        if (ROOT / name).is_dir():
            leave = shutil.ignore_patterns("__pycache__")
            shutil.copytree(ROOT / name, directory / name, ignore=leave)
        else:
            shutil.copy2(ROOT / name, directory / name)
    return directory
