"""What the endpoint asks of a place where containers run.

To add one: a module beside this one with a class that does what ``Fleet`` says, and a line in
``fleets.make``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from endpoint.specs import ContainerSpec

Record = Mapping[str, str | int]


class FleetError(Exception):
    """Raised when a container cannot be had; the text is for the user, and says what to do."""


class ImageError(FleetError):
    """Raised for an image or command that is not there or cannot serve as asked."""


@dataclass(frozen=True, slots=True)
class InstanceSpec:
    """A container to start.

    ``directory`` is its own and lasts: ``models`` below it is where the endpoint puts models'
    directories, ``log`` is a file for its output. ``id`` is fit for file and container names.
    """

    id: str
    container: ContainerSpec
    instance_type: str
    directory: Path
    memory_limit_bytes: int | None

    @property
    def models(self) -> Path:
        """Where models' directories lie; in the container ``/opt/ml/models``, if it has mounts."""
        return self.directory / "models"

    @property
    def log(self) -> Path:
        """Where its output goes."""
        return self.directory / "log"


@dataclass(frozen=True, slots=True)
class MemoryUse:
    """Bytes that an instance takes, and may take."""

    used: int
    limit: int


class Container(Protocol):
    """A container that was started or found again."""

    url: str  # of its HTTP port, without a path
    record: Record  # for ``Fleet.adopt``; goes through JSON

    def path(self, directory: Path) -> str:
        """How the container calls a directory below its ``InstanceSpec.models``."""

    async def ended(self) -> str:
        """Return when it has ended by itself, with how; for ever while it runs."""

    async def stop(self, timeout_seconds: float) -> None:
        """SIGTERM, and SIGKILL after the timeout; returns when it is gone. Also if it is already."""

    def memory(self) -> MemoryUse | None:
        """What it takes now; None if nobody knows. Blocks for milliseconds at most."""

    def last_words(self) -> str:
        """The end of its output, for messages; "" if there is none."""


class Fleet(Protocol):
    """Starts containers and finds them again."""

    async def check(self, container: ContainerSpec) -> None:
        """Raise ImageError if such a container could not serve as it should."""

    async def start(self, spec: InstanceSpec) -> Container:
        """Start it, without waiting until it is healthy. Raises FleetError."""

    async def adopt(self, spec: InstanceSpec, record: Record) -> Container | None:
        """A container of an earlier life of the endpoint, or None if it is not running any more."""

    async def close(self) -> None:
        """Let go of what the fleet itself holds open; containers go on."""
