"""What the endpoint asks of a place where containers run.

To add one: a module beside this one with a class that does what ``Fleet`` says, and a line in
``choice.make``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from endpoint.specs import ContainerSpec

Record = Mapping[str, str | int]

# Below ``InstanceSpec.models``: the one model of a container in single-model mode. The endpoint
# puts it there before the start; containers with mounts see it as ``/opt/ml/model``.
SINGLE_DIR = "single/model"


class FleetError(Exception):
    """Raised when a container cannot be had; the text is for the user, and says what to do."""


class ImageError(FleetError):
    """Raised for an image or command that is not there or cannot serve as asked."""


class LabelError(ImageError):
    """Raised for an image that does not say that it can serve many models."""


@dataclass(frozen=True, slots=True)
class InstanceSpec:
    """A container to start.

    ``directory`` is its own and lasts; ``log`` below it is a file for its output. ``id`` is fit for
    file and container names.
    """

    id: str
    container: ContainerSpec
    instance_type: str
    directory: Path
    memory_limit_bytes: int | None

    @property
    def models(self) -> Path:
        """Where models' directories lie, unless ``Container.models`` is another place."""
        return self.directory / "models"

    @property
    def single_model(self) -> Path:
        """Where the one model lies in single-model mode."""
        return self.models / SINGLE_DIR

    @property
    def log(self) -> Path:
        """Where its output goes."""
        return self.directory / "log"


@dataclass(frozen=True, slots=True)
class MemoryUse:
    """Bytes that an instance takes, and may take."""

    used: int
    limit: int


@dataclass(frozen=True, slots=True)
class CpuTime:
    """Seconds of processor time that an instance had used, at a moment of the monotonic clock."""

    used: float
    at: float


class Container(Protocol):
    """A container that was started or found again."""

    url: str  # of its HTTP port, without a path
    record: Record  # for ``Fleet.adopt``; goes through JSON
    models: Path  # where the endpoint puts models' directories: often ``InstanceSpec.models``
    has_gpus: bool  # it may use those of this machine

    def path(self, directory: Path) -> str:
        """How the container calls a directory below ``models``."""

    async def ended(self) -> str:
        """Return when it has ended by itself, with how; for ever while it runs."""

    async def stop(self, timeout_seconds: float) -> None:
        """SIGTERM, and SIGKILL after the timeout; returns when it is gone, at once if it is."""

    def memory(self) -> MemoryUse | None:
        """What it took when that was last measured; None if nobody knows. At once."""

    def cpu(self) -> CpuTime | None:
        """What it had used when its memory was last measured; None if nobody knows. At once."""

    async def measure(self) -> MemoryUse | None:
        """What it takes now; None if nobody knows. With thousands of processes, in a second."""

    async def last_words(self) -> str:
        """The end of its output, and what ran if that is not plain; "" if there is none."""


class Fleet(Protocol):
    """Starts containers and finds them again."""

    async def check(self, container: ContainerSpec) -> None:
        """Raise ImageError if such a container could not serve as it should."""

    async def start(self, spec: InstanceSpec) -> Container:
        """Start it, without waiting until it is healthy. Raises FleetError."""

    async def adopt(self, spec: InstanceSpec, record: Record) -> Container | None:
        """A container of an earlier life of the endpoint, or None if it is not running any more.

        What is left of one that does not run is removed; so it is with an empty record, for one
        that may have been started right before the earlier life ended.
        """

    async def measure(self) -> None:
        """Have each container's ``memory`` and ``cpu`` be those of now, or of a moment ago."""

    async def close(self) -> None:
        """Let go of what the fleet itself holds open; containers go on."""
