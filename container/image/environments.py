"""``python environments.py DIRECTORY NAME,NAME…``: build the environments of these frameworks."""

from __future__ import annotations

import asyncio
import sys

from container.environment import current_environment
from handlers.frameworks import FRAMEWORKS
from handlers.types import Requirements
from model_server.environments.environments import Environments
from model_server.processes.children import Children
from model_server.processes.lifeline import Lifeline
from model_server.settings import Settings

APART = sorted(name for name, framework in FRAMEWORKS.items() if framework.PINS)


async def build(directory: str, names: list[str]) -> None:
    """Build them, one after the other. Raises what the server would answer to a load."""
    lifeline = Lifeline()
    children = Children(on_adopted_exit=lambda pid, code: None)
    children.watch(asyncio.get_running_loop())
    environments = Environments(
        Settings(environments_dir=directory, environment_timeout_seconds=3600),
        current_environment(),
        children,
        lifeline_fd=lifeline.read_fd,
    )
    try:
        for name in names:
            await environments.prepare(Requirements(pins=FRAMEWORKS[name].PINS))
    finally:
        await environments.close()
        lifeline.close()


def main() -> None:
    """The command line."""
    directory, given = sys.argv[1:]
    names = list(filter(None, (name.strip() for name in given.split(","))))
    for name in names:
        if name not in APART:
            sys.exit(f"{name!r} has no environment of its own; these have: {', '.join(APART)}")
    asyncio.run(build(directory, names))


if __name__ == "__main__":
    main()
