"""Containers that somebody else runs: each URL of the settings serves as one instance at a time.

Nothing is started or stopped. The endpoint puts models' directories where the container can see
them; a container in single-model mode has its model already.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import aiohttp

from endpoint.fleets.fleet import FleetError, ImageError, InstanceSpec, Record
from endpoint.instances.container_client import ContainerClient, ContainerError
from endpoint.instances.health import look
from endpoint.settings import EndpointSettings, SettingsError
from endpoint.specs import ContainerSpec, Mode


@dataclass(frozen=True, slots=True)
class StaticInstance:
    """One of the settings: where it answers, and what it calls the directory of its models."""

    url: str
    models: Path
    models_in_container: str


def static_instance(text: str) -> StaticInstance:
    """Of ``URL=DIR`` or ``URL=DIR=DIR_IN_CONTAINER``. Raises SettingsError."""
    url, _, directories = text.partition("=")
    here, _, in_container = directories.partition("=")
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.netloc or not here:
        raise SettingsError(
            f"static_instances={text!r}: it must be URL=DIR or URL=DIR=DIR_IN_CONTAINER, as in "
            "http://10.0.0.5:8080=/srv/models=/opt/ml/models"
        )
    models = Path(here).absolute()
    return StaticInstance(url.rstrip("/"), models, in_container.rstrip("/") or str(models))


class StaticContainer:
    """One of them while an instance uses it."""

    has_gpus = False  # it may be on another machine

    def __init__(self, instance: StaticInstance, taken: set[str]) -> None:
        self.url = instance.url
        self.record: Record = {"url": instance.url}
        self.models = instance.models
        self._in_container = instance.models_in_container
        self._taken = taken
        taken.add(self.url)

    def path(self, directory: Path) -> str:
        """Below its own directory of models."""
        inner = directory.absolute().relative_to(self.models).as_posix()
        return f"{self._in_container}/{inner}"

    async def ended(self) -> str:
        """Never returns: only its probes tell whether it runs."""
        await asyncio.Event().wait()
        raise AssertionError("nobody sets it")

    async def stop(self, timeout_seconds: float) -> None:
        """Let another instance have it. It goes on, with the models that it has loaded."""
        self._taken.discard(self.url)

    def memory(self) -> None:
        """Nobody knows."""
        return

    def cpu(self) -> None:
        """Nobody knows."""
        return

    async def measure(self) -> None:
        """Nobody knows."""
        return

    async def last_words(self) -> str:
        """Its output is not ours to read."""
        return ""


class StaticFleet:
    """Hands out the containers of ``static_instances``. Raises SettingsError if they are wrong."""

    def __init__(self, settings: EndpointSettings) -> None:
        given = [static_instance(text) for text in settings.static_instances]
        self._instances = {instance.url: instance for instance in given}
        if not given:
            raise SettingsError("fleet='static' needs static_instances: URL=DIR for each")
        if len(self._instances) < len(given) or len({one.models for one in given}) < len(given):
            raise SettingsError("static_instances: each needs a URL and a directory of its own")
        self._settings = settings
        self._taken: set[str] = set()

    async def check(self, container: ContainerSpec) -> None:
        """One of them must serve already, with a list of models where there are to be many."""
        multi_model = container.mode is Mode.MULTI
        async with aiohttp.ClientSession() as session:
            looks = (self._look(session, url, multi_model) for url in self._instances)
            problems = await asyncio.gather(*looks)
        if all(problems):
            raise ImageError(
                "none of static_instances can serve "
                f"{'many models' if multi_model else 'a model'}: {'; '.join(problems)}"
            )

    async def _look(self, session: aiohttp.ClientSession, url: str, multi_model: bool) -> str:
        """What is wrong with it; "" if it is fit."""
        client = ContainerClient(
            session,
            url,
            connect_timeout_seconds=self._settings.connect_timeout_seconds,
            ping_timeout_seconds=self._settings.ping_timeout_seconds,
            max_body_bytes=self._settings.max_body_bytes,
        )
        try:
            await look(client, multi_model=multi_model)
        except ContainerError as error:
            return f"{url}: {error}"
        return ""

    async def start(self, spec: InstanceSpec) -> StaticContainer:
        """Take one that no instance uses."""
        free = [one for one in self._instances.values() if one.url not in self._taken]
        if not free:
            raise FleetError(
                f"instance {spec.id} has no container: all {len(self._instances)} of "
                "static_instances are in use; add one, or ask for fewer instances"
            )
        free[0].models.mkdir(parents=True, exist_ok=True)
        return StaticContainer(free[0], self._taken)

    async def adopt(self, spec: InstanceSpec, record: Record) -> StaticContainer | None:
        """Take the one that this instance had, if it is still in the settings."""
        instance = self._instances.get(str(record.get("url")))
        if instance is None or instance.url in self._taken:
            return None
        return StaticContainer(instance, self._taken)

    async def measure(self) -> None:
        """Nobody knows."""

    async def close(self) -> None:
        """Nothing is held."""
