"""What the pages tell people to type works as it stands there, from the first line to the last."""

from __future__ import annotations

import re
import shutil

import pytest

from documentation.pages import Page, read
from documentation.shell import Shell
from tests.docs.conftest import PAGE_SECONDS, PAGES, name_of

pytest.importorskip("sklearn")

# What most people try first is run with the quick tests.
QUICK = ("docs/index.md",)

RUN = [page for page in map(read, PAGES) if page.is_run]


def spoken(line: str) -> str:
    """A line without what differs from run to run."""
    return " ".join(re.sub(r"\d+(\.\d+)?", "0", line).split())


@pytest.mark.timeout(PAGE_SECONDS + 200)
@pytest.mark.skipif(shutil.which("curl") is None, reason="there is no curl")
@pytest.mark.parametrize(
    "page",
    [
        pytest.param(page, marks=[] if name_of(page.path) in QUICK else [pytest.mark.slow])
        for page in RUN
    ],
    ids=lambda page: name_of(page.path),
)
def test_a_page_does_what_it_says(page: Page, shell: Shell) -> None:
    printed = {spoken(line) for line in shell.run(page.script(), PAGE_SECONDS).splitlines()}
    missing = [line for line in page.printed() if spoken(line) not in printed]
    assert not missing, "\n".join(["", *missing, "is not among", *sorted(printed)])
