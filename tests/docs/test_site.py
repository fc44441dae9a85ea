"""The site is built from the pages, and needs nobody else to be read."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from documentation.generated import ROOT
from tests.docs.conftest import DOCS


def entries(nav: list[dict[str, Any]]) -> Iterator[tuple[str, str]]:
    """Names and pages."""
    for entry in nav:
        for name, target in entry.items():
            if isinstance(target, list):
                yield from entries(target)
            else:
                yield name, target


def navigation() -> list[tuple[str, str]]:
    return list(entries(yaml.safe_load((ROOT / "mkdocs.yml").read_text())["nav"]))


def test_the_navigation_has_each_page_by_its_title() -> None:
    assert {page for _, page in navigation()} == {
        str(path.relative_to(DOCS)) for path in DOCS.rglob("*.md")
    }
    for name, page in navigation():
        (title, *_) = re.findall(r"^# (.+)$", (DOCS / page).read_text(), re.MULTILINE)
        assert title == name, page


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_the_site_is_built_without_a_warning_and_loads_nothing_from_elsewhere(
    tmp_path: Path,
) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", tmp_path / "site"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    pages = list((tmp_path / "site").rglob("*.html"))
    assert len(pages) > len(navigation())
    for page in pages:
        text = page.read_text()
        loaded = re.findall(r'<(?:script|img|iframe|source)[^>]+src="([^"]+)"', text)
        loaded += re.findall(r'<link(?![^>]+rel="canonical")[^>]+href="([^"]+)"', text)
        assert not [address for address in loaded if re.match(r"(https?:)?//", address)]
