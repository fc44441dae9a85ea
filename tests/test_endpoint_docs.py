"""What the README and docs/endpoint.md tell people to type works, as it stands there."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from itertools import takewhile
from pathlib import Path
from time import time

import pytest

from endpoint.api.signatures import Access
from endpoint.settings import EndpointSettings
from examples.archives import pack
from modelyard.data_dir import DataDir
from tests.endpoint.user import processes_of

pytest.importorskip("sklearn")

pytestmark = pytest.mark.timeout(180)

ROOT = Path(__file__).parent.parent
INSTALLS = ("./scripts/install", ". .venv/bin/activate")


def section(page: str, title: str) -> str:
    """The part of a page below a heading, up to the next one of its kind."""
    text = (ROOT / page).read_text()
    (start,) = re.finditer(rf"^(#+) {re.escape(title)}\n", text, re.MULTILINE)
    return re.split(rf"^{start[1]} ", text[start.end() :], maxsplit=1, flags=re.MULTILINE)[0]


def introduction(page: str) -> str:
    """The part of a page above its first ``##``."""
    lines = (ROOT / page).read_text().splitlines(keepends=True)
    return "".join(takewhile(lambda line: not line.startswith("## "), lines))


def script_of(text: str) -> str:
    """All that people type, for a shell: console lines, and Python given to ``python``."""
    parts = []
    for language, block in re.findall(r"```(console|python)\n(.*?)```", text, re.DOTALL):
        if language == "console":
            lines = [line.removeprefix("$ ") for line in block.splitlines()]
            parts += [line for line in lines if not line.startswith(INSTALLS)]
        else:
            parts += ["python - <<'END'", block.rstrip(), "END"]
    return "\n".join(parts)


class Shell:
    """A user's, in an empty directory, without AWS in its environment."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        kept = {name: os.environ[name] for name in ("HOME", "LANG", "TMPDIR") if name in os.environ}
        self._environment = {
            **kept,
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "PYTHONPATH": str(ROOT),  # for those who are told to be in the repository
            "MODELYARD_UP_PORT": "0",  # another may have the one that is the default
            "AWS_CONFIG_FILE": str(directory / "none"),
            "AWS_SHARED_CREDENTIALS_FILE": str(directory / "none"),
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    def run(self, script: str) -> str:
        """What it prints, errors apart; it stops at the first line that fails."""
        done = subprocess.run(
            ["bash", "-c", f"set -e\n{script}"],
            cwd=self.directory,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, f"{script}\n{done.stdout}{done.stderr}"
        return done.stdout


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Shell]:
    shell = Shell(tmp_path)
    yield shell
    if DataDir(str(tmp_path / ".modelyard")).is_ours:
        shell.run("modelyard down")
    assert processes_of(tmp_path) == []


def test_the_lines_of_the_readme_work(shell: Shell) -> None:
    script = script_of(section("README.md", "An endpoint on your machine"))
    assert [line.split()[0] for line in script.splitlines()] == ["mkdir", *3 * ["modelyard"]]
    answer = shell.run(script).splitlines()[-1]
    assert "setosa" in answer
    assert processes_of(shell.directory) == []


def test_the_beginning_of_the_page_works_from_upload_to_answer(shell: Shell) -> None:
    pack("iris_sklearn", shell.directory / "model.tar.gz")
    pack("iris_sklearn", shell.directory / "archives" / "iris.tar.gz")
    script = script_of(introduction("docs/endpoint.md"))
    assert script.count("modelyard up") == 2
    assert "invoke_endpoint" in script
    assert shell.run(script).count("setosa") == 2


def test_the_access_file_of_the_page_is_one(tmp_path: Path) -> None:
    (example,) = re.findall(
        r"```json\n(.*?)```", section("docs/endpoint.md", "Who may invoke what"), re.DOTALL
    )
    file = tmp_path / "access.json"
    file.write_text(example)
    Access.load(replace(EndpointSettings(), access_file=str(file)), time)
