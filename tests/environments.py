"""Interpreters of frameworks that live apart from the server, for the tests and the examples.

Built as the server would build them and kept in ``.environments/``, so that only the first run
waits for pip.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from pathlib import Path

from handlers.types import Requirements
from model_server.environments.environments import Environments
from model_server.processes.children import Children
from model_server.processes.lifeline import Lifeline
from model_server.settings import Settings

ROOT = Path(__file__).parent.parent
CACHE = ROOT / ".environments"
BUILD_SECONDS = 600.0

# The SageMaker SDKs, with what runs their notebooks.
SAGEMAKER_2 = ("sagemaker==2.257.7", "ipykernel==7.4.0")
SAGEMAKER_3 = ("sagemaker-core==2.27.0", "ipykernel==7.4.0")

MAX_BYTES = 8 << 30  # older ones go: each change of the server's own packages makes new ones


def interpreter(*pins: str) -> str:
    """The interpreter of an environment that has these packages over those of the server."""
    command = [sys.executable, "-m", "tests.environments", *pins]
    done = subprocess.run(
        command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True, timeout=BUILD_SECONDS
    )
    return done.stdout


async def _prepared(requirements: Requirements) -> str:
    lifeline = Lifeline()
    children = Children(on_adopted_exit=lambda pid, code: None)
    children.watch(asyncio.get_running_loop())
    settings = Settings(environments_dir=str(CACHE), environments_max_bytes=MAX_BYTES)
    environments = Environments(settings, dict(os.environ), children, lifeline_fd=lifeline.read_fd)
    try:
        environment = await environments.prepare(requirements)
        await environments.collect({environment.key})
        return environment.python
    finally:
        await environments.close()
        lifeline.close()


if __name__ == "__main__":  # in a process of its own: it becomes a parent of orphans
    sys.stdout.write(asyncio.run(_prepared(Requirements(pins=tuple(sys.argv[1:])))))
