"""``modelyard up --image``: containers of an image, which is looked at before anything starts."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass

from container.environment import settings_from
from endpoint.fleets.docker import DockerFleet
from endpoint.fleets.fleet import FleetError, ImageError, LabelError
from endpoint.settings import EndpointSettings
from endpoint.specs import ContainerSpec, Mode

_FLEET, _FLEET_VARIABLE = "docker", "MODELYARD_UP_FLEET"

_BUILT = "`./scripts/image cpu` builds one"


class NoImage(Exception):
    """Raised with why containers of an image cannot serve, and what to do."""


@dataclass(frozen=True, slots=True)
class Image:
    """One that is there. ``build`` is another when it has been built again under its name."""

    name: str
    build: str


def settings_with(
    image: str | None, environment: Mapping[str, str], options: Mapping[str, str]
) -> EndpointSettings:
    """With an image the fleet is one of containers, unless another is asked for."""
    default = {_FLEET_VARIABLE: _FLEET} if image else {}
    return settings_from(EndpointSettings, {**default, **environment}, options)


def find(
    name: str | None, settings: EndpointSettings, environment: Mapping[str, str]
) -> Image | None:
    """The image as the engine of the settings has it, pulled if need be; None if none is asked for.

    Raises NoImage.
    """
    if not name:
        return None
    if settings.fleet != _FLEET:
        raise NoImage(f"--image needs the fleet {_FLEET!r}, and it is {settings.fleet!r}")
    try:
        return Image(name, asyncio.run(_build(name, settings, environment)))
    except LabelError as error:
        raise NoImage(f"{error} {_BUILT} that has it") from error
    except ImageError as error:
        raise NoImage(f"{error}; {_BUILT}, and --tag names it") from error
    except FleetError as error:
        raise NoImage(str(error)) from error


async def _build(name: str, settings: EndpointSettings, environment: Mapping[str, str]) -> str:
    fleet = DockerFleet(settings, environment)
    try:
        return await fleet.build(ContainerSpec(name, Mode.MULTI, "", {}))
    finally:
        await fleet.close()
