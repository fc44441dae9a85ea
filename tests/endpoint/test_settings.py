"""Each setting keeps to its bounds, and a value outside is named with them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields
from typing import Any

import pytest

from endpoint.settings import EndpointSettings, SettingsError

SETTINGS = fields(EndpointSettings)
# Any address, path, command or list may be right; what is wrong with it shows when it is used.
FREE = {
    *("host", "access_file", "local_command", "static_instances", "docker_url", "docker_volumes"),
    *("docker_gpus", "retry_lost_requests", "open_to_all", "published_on_loopback"),
}


def wrong() -> Iterator[tuple[str, Any, str]]:
    """A setting, a value outside its bounds, and what the message says of these."""
    for field in SETTINGS:
        bounds = field.metadata
        if "choices" in bounds:
            yield field.name, "other", f"one of {', '.join(bounds['choices'])}"
        if "pattern" in bounds:
            yield field.name, "", bounds["pattern"]
        if "at_least" in bounds:
            yield field.name, bounds["at_least"] - 1, f"{bounds['at_least']} or more"
            yield field.name, float("nan"), f"{bounds['at_least']} or more"
        if "at_most" in bounds:
            yield field.name, bounds["at_most"] + 1, f"{bounds['at_most']} or less"


def right() -> Iterator[tuple[str, Any]]:
    for field in SETTINGS:
        bounds = field.metadata
        yield from ((field.name, value) for value in bounds.get("choices", ()))
        yield from (
            (field.name, bounds[name]) for name in ("at_least", "at_most") if name in bounds
        )


def test_every_setting_has_bounds_but_those_that_can_be_anything() -> None:
    assert {name for name, *_ in wrong()} | FREE == {field.name for field in SETTINGS}
    timed = [field.name for field in SETTINGS if field.name.endswith("_seconds")]
    for name in timed:
        with pytest.raises(SettingsError, match="or less"):
            EndpointSettings(**{name: float("inf")})  # type: ignore[arg-type]


@pytest.mark.parametrize(("name", "value", "bound"), list(wrong()))
def test_a_value_outside_its_bounds_is_named_with_them(name: str, value: Any, bound: str) -> None:
    with pytest.raises(SettingsError) as raised:
        EndpointSettings(**{name: value})
    assert str(raised.value).startswith(f"{name}={value!r}: it must be ")
    assert bound in str(raised.value)


@pytest.mark.parametrize(("name", "value"), list(right()))
def test_the_bounds_themselves_are_allowed(name: str, value: Any) -> None:
    assert getattr(EndpointSettings(**{name: value}), name) == value


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("region", "US EAST"),
        ("region", "us-east-1\n"),
        ("account", "12345"),
        ("account", "١٢٣٤٥٦٧٨٩٠١٢"),
        ("docker_network", "a b"),
    ],
)
def test_names_keep_to_their_form(name: str, value: str) -> None:
    with pytest.raises(SettingsError, match=name):
        EndpointSettings(**{name: value})  # type: ignore[arg-type]
