"""Where pages lie, and the shell that types them."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from documentation.generated import ROOT
from documentation.shell import Failed, Shell
from modelyard.data_dir import DataDir
from tests.endpoint.user import processes_of, until

DOCS = ROOT / "docs"
PAGES = sorted([*ROOT.glob("*.md"), *DOCS.rglob("*.md")])

PAGE_SECONDS = 300
DOWN_SECONDS = 120


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Shell]:
    """A reader's; what it has started ends with the test, and nothing may be left after that."""
    folder = tmp_path / "reader"
    folder.mkdir()
    shell = Shell(folder, os.environ)
    try:
        yield shell
        if DataDir(str(folder / ".modelyard")).is_ours:
            shell.run("modelyard down", DOWN_SECONDS)
        until(lambda: processes_of(folder) == [], 60)
    except Failed as failed:
        pytest.fail(str(failed))
    finally:
        for pid in processes_of(folder):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
