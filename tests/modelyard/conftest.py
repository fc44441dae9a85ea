"""The command as people run it, and models to run it on."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

COMMAND = Path(sys.executable).with_name("modelyard")
MODELS = Path(__file__).parent.parent / "models"

Modelyard = Callable[..., "subprocess.CompletedProcess[str]"]


def environment(**variables: str) -> dict[str, str]:
    """Ours without what sets the server, and with these."""
    inherited = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("SAGEMAKER_", "MODELYARD_", "OMP_"))
    }
    return {**inherited, **variables}


@pytest.fixture
def modelyard(tmp_path: Path) -> Modelyard:
    """Runs ``modelyard`` in an empty directory, and with a directory for temporary files."""
    temporary, here = tmp_path / "temporary", tmp_path / "here"
    temporary.mkdir()
    here.mkdir(exist_ok=True)

    def run(*arguments: object, **variables: str) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [COMMAND, *map(str, arguments)],
            env=environment(TMPDIR=str(temporary), **variables),
            cwd=here,
            capture_output=True,
            text=True,
            timeout=100,
            check=False,
        )
        assert list(temporary.iterdir()) == []
        return done

    return run
