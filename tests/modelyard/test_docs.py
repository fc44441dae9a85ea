"""The pages on the command and on the settings file say what is so."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from handlers.directory.model_settings import read_settings
from handlers.directory.setting_values import KEYS, RANGES, range_of
from handlers.types import ModelSettings

from .conftest import Modelyard

DOCS = Path(__file__).parent.parent.parent / "docs"
COMMANDS = [
    line.removeprefix("modelyard ").split()
    for block in re.findall(r"```sh\n(.*?)```", (DOCS / "check-and-pack.md").read_text(), re.DOTALL)
    for line in block.splitlines()
]


@pytest.fixture
def my_model(tmp_path: Path) -> Path:
    """Where the commands run: the page's model and request, and its archive once it is packed."""
    here = tmp_path / "here"
    (here / "my-model" / "code").mkdir(parents=True)
    script = "def model_fn(model_dir):\n    return 2\n\n\ndef predict_fn(data, model):\n"
    script += "    return data.sum(axis=-1) * model\n"
    (here / "my-model" / "code" / "inference.py").write_text(script)
    (here / "request.json").write_text("[[1.0, 2.0]]")
    return here


def test_the_commands_of_the_page_work(modelyard: Modelyard, my_model: Path) -> None:
    assert len(COMMANDS) == 4
    for command in COMMANDS:
        done = modelyard(*command)
        assert done.returncode == 0, done.stdout + done.stderr
    assert (my_model / "my-model.tar.gz").is_file()


def test_the_page_shows_what_the_command_prints(modelyard: Modelyard, my_model: Path) -> None:
    page = (DOCS / "check-and-pack.md").read_text()
    (shown,) = re.findall(r"```text\n(.*?)```", page, re.DOTALL)
    printed = modelyard(*COMMANDS[0]).stdout
    assert my_model.is_dir()

    def without_numbers(text: str) -> list[str]:
        return re.sub(r"\d+(\.\d+)?", "0", text).splitlines()

    assert without_numbers(shown) == without_numbers(printed)


def test_the_example_of_a_settings_file_is_taken_and_has_every_key(tmp_path: Path) -> None:
    page = (DOCS / "model-settings.md").read_text()
    (example,) = re.findall(r"```toml\n(.*?)```", page, re.DOTALL)
    (tmp_path / "modelyard.toml").write_text(example)
    taken = read_settings(tmp_path, None, ModelSettings())
    for key in (*KEYS, "environment"):
        assert getattr(taken, key) != getattr(ModelSettings(), key)


def test_every_key_of_a_settings_file_has_its_row_with_its_range() -> None:
    page = (DOCS / "model-settings.md").read_text()
    rows = dict(re.findall(r"^\| `(\w+)` \| ([^|]+) \|", page, re.MULTILINE))
    assert list(rows) == list(KEYS)
    for key in RANGES:
        assert rows[key] == range_of(key)
