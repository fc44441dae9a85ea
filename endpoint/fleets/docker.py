"""Containers of an engine with Docker's API: Docker, or Podman.

They are found again by their ids. The engine keeps what they print, and a copy of the end of it is
kept here, since it goes with the container.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping
from typing import Any

from endpoint.fleets.docker_container import DockerContainer
from endpoint.fleets.docker_watch import INSTANCE_LABEL, DockerWatch
from endpoint.fleets.engine import Engine
from endpoint.fleets.fleet import FleetError, ImageError, InstanceSpec, LabelError, Record
from endpoint.fleets.ports import HOST, free_blocks
from endpoint.settings import EndpointSettings
from endpoint.specs import ContainerSpec, Mode

MULTI_MODEL_LABEL = "com.amazonaws.sagemaker.capabilities.multi-models"
DIRECTORY_LABEL = "modelyard.directory"

_HOST_NETWORK = "host"
_PORT = 8080
_SAFE_PORT_RANGE = "23000-23999"

# Types that come with NVIDIA GPUs.
_GPU_TYPE = re.compile(r"ml\.[gp]\d")


class DockerFleet:
    """Starts containers with ``serve``, as the platform does."""

    def __init__(self, settings: EndpointSettings, environment: Mapping[str, str]) -> None:
        self._settings = settings
        self._engine = Engine(settings.docker_url, environment)
        self._watch = DockerWatch(self._engine)

    async def check(self, container: ContainerSpec) -> None:
        """The image must be had, and say that it can serve many models if it has to."""
        await self.build(container)

    async def build(self, container: ContainerSpec) -> str:
        """The id of the image, which is another for each build. Raises ImageError as ``check``."""
        if not container.image:
            raise ImageError("the container has no Image")
        image = await self._engine.image(container.image)
        labels = image.labels or {}
        if container.mode is Mode.MULTI and labels.get(MULTI_MODEL_LABEL) != "true":
            raise LabelError(
                f"Your Ecr Image {container.image} does not contain required "
                f"{MULTI_MODEL_LABEL}=true Docker label(s)."
            )
        return str(image.id)

    async def start(self, spec: InstanceSpec) -> DockerContainer:
        """Start it. Raises FleetError with the engine's words."""
        mounted = spec.models if spec.container.mode is Mode.MULTI else spec.single_model
        mounted.mkdir(parents=True, exist_ok=True)
        wanted = self._wanted(spec)
        image = spec.container.image
        try:
            found = await self._engine.call(
                lambda client: client.containers.create(image, ["serve"], **wanted)
            )
        except FleetError as error:
            raise FleetError(f"instance {spec.id} cannot be made: {error}") from error
        try:
            await self._engine.call(lambda _: _start(found))
            return self._hold(spec, found)
        except BaseException as error:
            await self._engine.discard(found)
            if isinstance(error, FleetError):
                raise FleetError(f"instance {spec.id} cannot be started: {error}") from error
            raise

    async def adopt(self, spec: InstanceSpec, record: Record) -> DockerContainer | None:
        """The container of the record; if it does not run, what is left of it is removed."""
        name = str(record.get("container", ""))
        found = await self._engine.find(lambda client: client.containers.get(name or _name(spec)))
        if found is None or found.labels.get(DIRECTORY_LABEL) != _directory(spec):
            return None
        if name and found.status == "running":
            return self._hold(spec, found)
        await self._engine.discard(found)
        return None

    async def measure(self) -> None:
        """Ask all; some by their control groups, which takes no time."""
        await asyncio.gather(*(container.measure() for container in self._watch.containers()))

    async def close(self) -> None:
        """Let go of the engine; containers go on."""
        await self._watch.close()
        await self._engine.close()

    def _hold(self, spec: InstanceSpec, found: Any) -> DockerContainer:
        has_gpus = self._has_gpus(spec)
        container = DockerContainer(spec, self._engine, found, _url(found), has_gpus=has_gpus)
        self._watch.add(container)
        return container

    def _has_gpus(self, spec: InstanceSpec) -> bool:
        return self._settings.docker_gpus and _GPU_TYPE.match(spec.instance_type) is not None

    def _wanted(self, spec: InstanceSpec) -> dict[str, Any]:
        """What the engine is asked for, as arguments of the docker package."""
        settings, environment = self._settings, dict(spec.container.environment)
        wanted: dict[str, Any] = {
            "name": _name(spec),
            "labels": {INSTANCE_LABEL: spec.id, DIRECTORY_LABEL: _directory(spec)},
            "volumes": [_mount(spec), *settings.docker_volumes],
            "network_mode": settings.docker_network,
            "log_config": self._engine.short_logs(),
        }
        if spec.memory_limit_bytes:
            wanted["mem_limit"] = wanted["memswap_limit"] = spec.memory_limit_bytes
        if self._has_gpus(spec):
            wanted["device_requests"] = self._engine.gpus()
        port, safe_range = _PORT, _SAFE_PORT_RANGE
        if settings.docker_network == _HOST_NETWORK:
            block = next(free_blocks())
            port, safe_range = block.port, block.safe_range
            environment.setdefault("MODELYARD_HOST", HOST)
        else:
            wanted["ports"] = {f"{port}/tcp": (HOST, None)}
        if spec.container.mode is Mode.MULTI:
            environment["SAGEMAKER_MULTI_MODEL"] = "true"
        environment |= {
            "SAGEMAKER_BIND_TO_PORT": str(port),
            "SAGEMAKER_SAFE_PORT_RANGE": safe_range,
            "AWS_REGION": settings.region,
        }
        return {**wanted, "environment": environment}


def _start(found: Any) -> None:
    found.start()
    found.reload()  # the engine has chosen its port only now


def _name(spec: InstanceSpec) -> str:
    return f"modelyard-{spec.id}"


def _directory(spec: InstanceSpec) -> str:
    """What tells instances of one id apart, where several endpoints use one engine."""
    return str(spec.directory.absolute())


def _mount(spec: InstanceSpec) -> str:
    """Read-only: a model's code must not change the models of others, or what is being extracted.

    No server in use writes there; Python does without its ``__pycache__``.
    """
    if spec.container.mode is Mode.MULTI:
        return f"{spec.models.absolute()}:/opt/ml/models:ro"
    return f"{spec.single_model.absolute()}:/opt/ml/model:ro"


def _url(found: Any) -> str:
    published = found.ports.get(f"{_PORT}/tcp")
    if published:
        return f"http://{HOST}:{published[0]['HostPort']}"
    variables = dict(text.split("=", 1) for text in found.attrs["Config"]["Env"])
    return f"http://{HOST}:{variables['SAGEMAKER_BIND_TO_PORT']}"
