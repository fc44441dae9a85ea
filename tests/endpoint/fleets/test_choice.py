"""The fleet that the settings ask for."""

from __future__ import annotations

import sys

import pytest

from endpoint.fleets.choice import make
from endpoint.fleets.docker import DockerFleet
from endpoint.fleets.fleet import Fleet, FleetError
from endpoint.fleets.local import LocalFleet
from endpoint.fleets.static import StaticFleet
from endpoint.settings import EndpointSettings


@pytest.mark.parametrize(
    ("name", "kind"), [("local", LocalFleet), ("docker", DockerFleet), ("static", StaticFleet)]
)
def test_each_kind_can_be_had(name: str, kind: type[Fleet]) -> None:
    settings = EndpointSettings(fleet=name, static_instances=("http://a:1=/x",))
    assert type(make(settings, {})) is kind


def test_without_the_docker_package_it_is_told_how_to_get_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "docker", None)
    with pytest.raises(FleetError, match=r"pip install 'modelyard\[docker\]'"):
        make(EndpointSettings(fleet="docker"), {})
