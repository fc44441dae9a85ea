"""Which fleet the settings ask for."""

from __future__ import annotations

from collections.abc import Mapping

from endpoint.fleets.docker import DockerFleet
from endpoint.fleets.fleet import Fleet
from endpoint.fleets.local import LocalFleet
from endpoint.fleets.static import StaticFleet
from endpoint.settings import EndpointSettings


def make(settings: EndpointSettings, environment: Mapping[str, str]) -> Fleet:
    """The fleet; ``environment`` is that of this process. Raises SettingsError, and FleetError
    when the place where it would run containers cannot be used."""
    match settings.fleet:
        case "docker":
            return DockerFleet(settings, environment)
        case "static":
            return StaticFleet(settings)
        case _:
            return LocalFleet(settings, environment)
