"""What the documentation says of settings, routes, metrics and files is so."""

from __future__ import annotations

import re
from dataclasses import Field, fields
from pathlib import Path
from typing import Any

import pytest

from container.environment import variables
from endpoint.settings import EndpointSettings
from model_server.gateway.gateway import _INVOCATIONS, _ROUTES
from model_server.settings import Settings

ROOT = Path(__file__).parent.parent
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])
ROUTES = {*_ROUTES, _INVOCATIONS, "/models/{name}", "/models/{name}/invoke"}


def rows(page: str) -> list[list[str]]:
    """The cells of every table row."""
    lines = (ROOT / page).read_text().splitlines()
    return [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in lines
        if line.startswith("| `")
    ]


def written(value: Any) -> str:
    """A default as the table has it."""
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if isinstance(value, float):
        return f"`{value:g}`"
    if isinstance(value, tuple):
        value = ":".join(value)
    return f"`{value}`" if value not in ("", None) else ""


def own_variable(field: Field[Any]) -> str:
    """The variable that follows from a setting's name."""
    return f"MODELYARD_{field.name.upper()}"


def test_our_variables_win_over_those_of_other_servers_but_not_of_the_platform() -> None:
    of_the_platform = {"port": "SAGEMAKER_BIND_TO_PORT", "multi_model": "SAGEMAKER_MULTI_MODEL"}
    for field in fields(Settings):
        first, *others = variables(field)
        assert first == of_the_platform.get(field.name, own_variable(field))
        assert own_variable(field) in (first, *others)


def test_each_setting_has_its_row_in_order_and_there_are_no_others() -> None:
    assert rows("docs/configuration.md") == [
        [
            f"`{field.name}`",
            written(field.default),
            ", ".join(f"`{name}`" for name in variables(field) if name != own_variable(field)),
            field.metadata["text"],
        ]
        for field in fields(Settings)
    ]


def test_each_setting_of_the_endpoint_has_its_row_in_order_and_there_are_no_others() -> None:
    assert rows("docs/endpoint-settings.md") == [
        [
            f"`{field.name}`",
            written(field.default),
            f"`{field.metadata['env']}`",
            field.metadata["text"],
        ]
        for field in fields(EndpointSettings)
    ]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_variable_that_is_named_exists(page: Path) -> None:
    settings = [*fields(Settings), *fields(EndpointSettings)]
    known = {name for field in settings for name in variables(field)}
    named = set(re.findall(r"\bMODELYARD_[A-Z_]+\b", page.read_text()))
    assert named <= known


def test_each_route_is_described_and_there_are_no_others() -> None:
    found = set()
    for cell, *_ in rows("docs/http.md"):
        route = re.match(r"`(?:GET|POST|DELETE) ([^?`]+)", cell)
        if route:
            found.add(route[1])
    assert found == ROUTES


def test_each_metric_is_described_and_there_are_no_others() -> None:
    sources = [path.read_text() for path in (ROOT / "model_server").glob("*metrics.py")]
    names = re.findall(r'"(modelyard_[a-z_]+)"', "".join(sources))
    made = {name.removesuffix("_total") for name in names}
    text = (ROOT / "docs" / "http.md").read_text()
    for beginning, ends in re.findall(r"`(modelyard_[a-z]+_)[a-z_]+`((?:, `_[a-z_]+`)+)", text):
        text += "".join(f"`{beginning}{end}`" for end in re.findall(r"`_([a-z_]+)`", ends))
    described = set(re.findall(r"`(modelyard_[a-z_]+)", text))
    assert {name.removesuffix("_total") for name in described} == made


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_to_a_file_leads_to_one(page: Path) -> None:
    written_by_scripts = {"docs/benchmarks.md"}
    links = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text())
    missing = [link for link in links if not (page.parent / link).exists()]
    assert set(missing) <= written_by_scripts
