"""Containers of an image under test."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import httpx

from tests.contract.polling import eventually
from tests.podman import Podman

START_SECONDS = 90.0
STOP_SECONDS = 30  # which the platform gives
_numbers = count(1)


@dataclass(frozen=True)
class Container:
    """A container that runs, and the address of its port; ``url`` is "" where there is none."""

    engine: Podman
    name: str
    url: str

    def ping(self) -> int:
        """The status of /ping, or 0 while nobody answers."""
        try:
            return httpx.get(f"{self.url}/ping", timeout=5.0).status_code
        except httpx.TransportError:
            return 0

    def is_healthy(self) -> bool:
        """Wait until it is; an AssertionError with its log if that never happens."""

        def settled() -> bool:
            return self.ping() == 200 or self.state("Status") != "running"

        assert eventually(settled, within_seconds=START_SECONDS), self.log()
        return self.ping() == 200

    def state(self, key: str) -> Any:
        """Of what the engine says of it: Status, ExitCode, Pid."""
        said = self.engine.run("inspect", "--format", "{{json .State}}", self.name)
        return json.loads(said)[key]

    def log(self) -> str:
        """The end of its output."""
        return self.engine.run("logs", "--tail", "60", self.name)

    def python(self, code: str) -> str:
        """What Python code prints inside of it."""
        return self.engine.run("exec", self.name, "python", "-c", code).strip()

    def stop(self) -> int:
        """SIGTERM, and SIGKILL after the platform's time; returns the exit code."""
        limit = STOP_SECONDS + 60
        self.engine.run("stop", "--time", str(STOP_SECONDS), self.name, within_seconds=limit)
        return int(self.state("ExitCode"))


def run(
    engine: Podman,
    image: str,
    *options: str,
    variables: Mapping[str, str] | None = None,
    models: Path | None = None,
    mode: str = "ro",
    port: int = 8080,
    network: bool = True,
) -> Container:
    """``run IMAGE serve``, as the platform does it; a name and a port of its own are chosen.

    The container sees ``models`` under the same path, may load from there, and with the mode
    "rw" write there.
    """
    name = f"image-test-{next(_numbers)}"
    given = {
        "SAGEMAKER_MULTI_MODEL": "true",
        "MODELYARD_PRELOAD": "python",
        "MODELYARD_LEARNED_SIZES_FILE": "",
        **({"MODELYARD_MODEL_ROOTS": str(models)} if models else {}),
        **(variables or {}),
    }
    flags = [part for key, value in given.items() for part in ("--env", f"{key}={value}")]
    flags += ["--publish", f"127.0.0.1::{port}"] if network else ["--network", "none"]
    flags += ["--volume", f"{models}:{models}:{mode}"] if models else []
    engine.run("run", "--detach", "--name", name, *flags, *options, image, "serve")
    address = engine.run("port", name, f"{port}/tcp").strip() if network else ""
    return Container(engine, name, f"http://{address}" if address else "")
