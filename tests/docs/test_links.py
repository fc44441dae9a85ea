"""Links of the pages lead to files and headings that are there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from markdown import Markdown

from tests.docs.conftest import DOCS, PAGES, name_of

LINK = re.compile(r"\]\((?!https?://)([^)\s]+)\)")


def prose(page: Path) -> str:
    """A page without its code."""
    text = re.sub(r"^ *```.*?^ *```$", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)
    return re.sub(r"`[^`\n]+`", "code", text)


def anchors(page: Path) -> set[str]:
    """The ids of its headings, as the site has them."""
    reader = Markdown(extensions=["toc", "fenced_code", "tables"])
    return set(re.findall(r'<h\d id="([^"]+)"', reader.convert(page.read_text())))


def links(page: Path) -> list[tuple[str, str]]:
    """Files, "" for the page itself, and anchors."""
    parts = [link.partition("#") for link in LINK.findall(prose(page))]
    return [(file, anchor) for file, _, anchor in parts]


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_link_leads_to_a_file_and_to_a_heading_of_it(page: Path) -> None:
    for file, anchor in links(page):
        target = page.parent / file if file else page
        assert target.exists(), file
        if anchor:
            assert anchor in anchors(target), f"{file}#{anchor}"


@pytest.mark.parametrize("page", sorted(DOCS.rglob("*.md")), ids=name_of)
def test_pages_of_the_site_link_to_nothing_outside_of_it(page: Path) -> None:
    for file, _ in links(page):
        assert (page.parent / file).resolve().is_relative_to(DOCS), file


@pytest.mark.parametrize("picture", sorted(DOCS.rglob("*.svg")), ids=name_of)
def test_drawings_say_what_they_show_and_are_readable_in_the_dark(picture: Path) -> None:
    text = picture.read_text()
    assert re.search(r"<title id=\"title\">.{20,}</title>", text)
    assert "prefers-color-scheme: dark" in text
