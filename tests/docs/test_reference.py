"""What pages say of settings, metrics and files is so."""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import Field, fields, replace
from pathlib import Path
from time import time
from typing import Any

import pytest

from container.environment import variables
from documentation.generated import ROOT
from endpoint.api.signatures import Access
from endpoint.settings import EndpointSettings
from handlers.directory.model_settings import read_settings
from handlers.directory.setting_values import KEYS
from handlers.types import ModelSettings
from model_server.settings import Settings
from tests.docs.conftest import DOCS, PAGES, name_of

REFERENCE = DOCS / "reference"


def block(page: Path, language: str) -> str:
    """The only one of that language."""
    (text,) = re.findall(rf"```{language}\n(.*?)```", page.read_text(), re.DOTALL)
    return str(text)


def test_pages_that_are_made_are_as_the_code_has_it() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "documentation", "check"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_our_variables_win_over_those_of_other_servers_but_not_of_the_platform() -> None:
    of_the_platform = {"port": "SAGEMAKER_BIND_TO_PORT", "multi_model": "SAGEMAKER_MULTI_MODEL"}

    def own_variable(field: Field[Any]) -> str:
        return f"MODELYARD_{field.name.upper()}"

    for field in fields(Settings):
        first, *others = variables(field)
        assert first == of_the_platform.get(field.name, own_variable(field))
        assert own_variable(field) in (first, *others)


def test_every_setting_has_its_row() -> None:
    for kind, page in ((Settings, "container"), (EndpointSettings, "endpoint")):
        text = (REFERENCE / f"{page}-settings.md").read_text()
        names = re.findall(r"^\| `(\w+)` \|", text, re.MULTILINE)
        assert names == [field.name for field in fields(kind)]


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_variable_that_is_named_exists(page: Path) -> None:
    settings = [*fields(Settings), *fields(EndpointSettings)]
    known = {name for field in settings for name in variables(field)}
    named = set(re.findall(r"\bMODELYARD_[A-Z_]+\b", page.read_text()))
    assert named <= known


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_metric_that_is_named_exists(page: Path) -> None:
    metric = r"\b(modelyard_[a-z0-9_]+[a-z])\b"
    known = set(re.findall(rf"^\| `{metric}", (REFERENCE / "metrics.md").read_text(), re.MULTILINE))
    of_histograms = {f"{name}_{part}" for name in known for part in ("bucket", "sum", "count")}
    assert set(re.findall(metric, page.read_text())) <= known | of_histograms


def test_the_access_file_of_the_page_is_one(tmp_path: Path) -> None:
    file = tmp_path / "access.json"
    file.write_text(block(DOCS / "how-to" / "restrict-access.md", "json"))
    Access.load(replace(EndpointSettings(), access_file=str(file)), time)


def test_the_example_of_a_settings_file_is_taken_and_has_every_key(tmp_path: Path) -> None:
    (tmp_path / "modelyard.toml").write_text(block(REFERENCE / "model-file.md", "toml"))
    taken = read_settings(tmp_path, None, ModelSettings())
    for key in (*KEYS, "environment"):
        assert getattr(taken, key) != getattr(ModelSettings(), key)
