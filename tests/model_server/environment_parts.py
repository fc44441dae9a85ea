"""Environments on a loop of the test's own, with a pip that knows no index."""

from __future__ import annotations

import asyncio
import os
import subprocess
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

from handlers.types import Requirements
from model_server.environments.environments import Environment, Environments
from model_server.processes.children import Children
from model_server.processes.lifeline import Lifeline
from model_server.settings import Settings

from .yard_parts import adopting, until

Result = TypeVar("Result")

LIMIT_SECONDS = 55.0


def run(work: Coroutine[Any, Any, Result]) -> Result:
    """Run to the end, on a loop of its own; longer than the limit is a hang."""

    async def limited() -> Result:
        async with asyncio.timeout(LIMIT_SECONDS):
            return await work

    with adopting():
        return asyncio.run(limited())


def pip_variables(**more: str) -> dict[str, str]:
    """Variables of a server whose pip reads no configuration and asks no index."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PIP_")}
    given = {"PIP_CONFIG_FILE": os.devnull, "PIP_NO_INDEX": "1", "PIP_NO_CACHE_DIR": "1"}
    return {**kept, **given, **more}


def watched() -> Children:
    """Children of the running loop; there can be only one such object on it."""
    children = Children(on_adopted_exit=lambda pid, code: None)
    children.watch(asyncio.get_running_loop())
    return children


@asynccontextmanager
async def environments(
    directory: Path,
    *,
    variables: dict[str, str] | None = None,
    children: Children | None = None,
    **settings: Any,
) -> AsyncIterator[Environments]:
    """The environments of a server, kept in ``directory``."""
    lifeline = Lifeline()
    own = children or watched()
    made = Environments(
        Settings(environments_dir=str(directory), **settings),
        pip_variables(**(variables or {})),
        own,
        lifeline_fd=lifeline.read_fd,
    )
    try:
        yield made
    finally:
        await made.close()
        lifeline.close()
        await until(lambda: not own._on_exit)


def prepared(directory: Path, *asked: Requirements, **settings: Any) -> list[Environment]:
    """An environment for each, built by a server of its own that is gone afterwards."""

    async def work() -> list[Environment]:
        async with environments(directory, **settings) as made:
            return list(await asyncio.gather(*map(made.prepare, asked)))

    return run(work())


def asking(directory: Path, text: str, wheels: Path | None = None) -> Requirements:
    """The requirements of a model whose requirements.txt has this text."""
    directory.mkdir(parents=True, exist_ok=True)
    file = directory / "requirements.txt"
    file.write_text(text)
    return Requirements(file=str(file), wheels=str(wheels) if wheels else None)


def says(environment: Environment, code: str) -> str:
    """What Python code prints in an environment. Not while a loop's ``Children`` reap."""
    command = [environment.python, "-P", "-c", code]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
