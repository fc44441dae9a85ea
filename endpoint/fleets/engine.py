"""Calls to a container engine, Docker's or Podman's: never on the event loop, errors in words.

The engine runs on this machine: it mounts our directories, and its ports are published on loopback.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any, TypeVar

from endpoint.fleets.fleet import FleetError, ImageError

T = TypeVar("T")

# A stop waits for its container, so that there are as many at once as there are threads.
_THREADS = 16

_MAX_LOG = "64m"


class Engine:
    """One engine; connected at the first call. Raises FleetError without the docker package."""

    def __init__(self, url: str, environment: Mapping[str, str]) -> None:
        try:
            import docker
        except ImportError:
            raise FleetError(
                "fleet='docker' needs the package docker: pip install 'modelyard[docker]'"
            ) from None
        self._docker = docker
        self._environment = {**environment, **({"DOCKER_HOST": url} if url else {})}
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="modelyard-docker")
        self._client: Any = None
        self._connecting = asyncio.Lock()

    async def call(self, do: Callable[[Any], T]) -> T:
        """``do(client)`` in a thread. Raises FleetError with what the engine said."""
        client = await self._connected()
        return await self._in_thread(lambda: do(client))

    async def find(self, do: Callable[[Any], T]) -> T | None:
        """As ``call``; None if the engine knows no such thing."""

        def found(client: Any) -> T | None:
            try:
                return do(client)
            except self._docker.errors.NotFound:
                return None

        return await self.call(found)

    async def image(self, name: str) -> Any:
        """The image; it is pulled if it is not on this machine. Raises ImageError."""
        await self._connected()
        try:
            found = await self.find(lambda client: client.images.get(name))
            return found or await self.call(lambda client: client.images.pull(name))
        except FleetError as error:
            raise ImageError(
                f"image {name!r} is not on this machine, and cannot be pulled: {error}"
            ) from error

    async def discard(self, container: Any) -> None:
        """Kill and remove a container, as far as it is there."""
        with suppress(FleetError):  # it does not run
            await self.find(lambda _: container.kill())
        await self.find(lambda _: container.remove(force=True, v=True))

    def gpus(self) -> list[Any]:
        """All GPUs, as a container asks for them."""
        return [self._docker.types.DeviceRequest(count=-1, capabilities=[["gpu"]])]

    def short_logs(self) -> Any:
        """Logs that do not fill the disk: by default Docker keeps all that a container prints."""
        return self._docker.types.LogConfig(type="json-file", config={"max-size": _MAX_LOG})

    async def close(self) -> None:
        """Close the connections, once nobody is using them."""
        await asyncio.to_thread(self._threads.shutdown, cancel_futures=True)
        if self._client is not None:
            self._client.close()

    async def _connected(self) -> Any:
        async with self._connecting:
            if self._client is None:
                connect = self._docker.DockerClient.from_env
                try:
                    self._client = await self._in_thread(
                        lambda: connect(environment=self._environment)
                    )
                except FleetError as error:
                    raise FleetError(
                        f"no container engine answers: {error}. Start Docker, or `podman system "
                        "service`, or say in docker_url where its socket is"
                    ) from error
        return self._client

    async def _in_thread(self, do: Callable[[], T]) -> T:
        def told() -> T:
            # requests' errors are OSErrors; the client makes ValueErrors of what it cannot read
            try:
                return do()
            except (self._docker.errors.DockerException, OSError, ValueError) as error:
                raise FleetError(_words(error)) from error

        return await asyncio.get_running_loop().run_in_executor(self._threads, told)


def _words(error: Exception) -> str:
    """What the engine said, without the URL of the call."""
    explanation = getattr(error, "explanation", None)
    return str(explanation or error).strip()
