"""What docs/how-to/docker.md has people type for Python, and a folder as it has them make it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from documentation.pages import read
from examples.archives import pack
from tests.podman import ROOT

PAGE = ROOT / "docs" / "how-to" / "docker.md"
SECONDS = 400.0


def printed_by_block(
    with_text: str, directory: Path, python: str = sys.executable, **variables: str
) -> str:
    """What the block prints which has this text in it, run in this directory."""
    found = [one.text for one in read(PAGE).blocks if one.language == "python"]
    (block,) = [text for text in found if with_text in text]
    pack("iris_sklearn", directory / "my-models" / "iris.tar.gz")
    done = subprocess.run(
        [python, "-c", block],
        cwd=directory,
        env=environment(directory, **variables),
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-5000:]
    return done.stdout


def environment(directory: Path, **variables: str) -> Mapping[str, str]:
    """Without what this machine knows of AWS and of Docker."""
    plain = {k: v for k, v in os.environ.items() if not k.startswith(("AWS_", "DOCKER_"))}
    return {**plain, "HOME": str(directory), "AWS_EC2_METADATA_DISABLED": "true", **variables}
