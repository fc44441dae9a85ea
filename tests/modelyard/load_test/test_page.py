"""The report in HTML: whole, of one file, and safe from what others call their models."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from typing import Any
from xml.etree import ElementTree

import pytest

from modelyard.load_test import figures
from modelyard.load_test.figures import Run
from modelyard.load_test.page import page
from modelyard.load_test.summary import summary
from modelyard.load_test.tally import Tally
from modelyard.load_test.wire import Outcome

BAD = '<script>alert("1")</script>&\x1b[2J'


def run_of(models: int, requests: int, **members: Any) -> Run:
    """Each tenth request fails, the first of each model is cold."""
    tally = Tally(models)
    outcomes = [
        Outcome(
            model=number % models,
            first=number < models,
            planned=number / 100,
            begun=number / 100,
            done=number / 100 + 0.01 * (1 + number % 7),
            loading_wait=0.5 if number < models else 0.0,
            not_ready=0,
            crowded=False,
            kind="ModelError 500" if number % 10 == 9 else "",
            words=BAD,
        )
        for number in range(requests)
    ]
    tally.add(outcomes, 3)
    targets = [f"{BAD}{number}.tar.gz" for number in range(models)]
    settings = {"endpoint": "ep", "body": BAD}
    return Run(
        **{
            "endpoint": "ep",
            "settings": settings,
            "targets": targets,
            "tally": tally,
            "warm_up": Tally(models),
            "open_loop": True,
            "began": 1e9,
            "seconds": tally.last_done,
            **members,
        }
    )


class Elements(HTMLParser):
    """What a browser would make of it."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs


@pytest.mark.parametrize(
    ("models", "requests"), [(1, 1), (1, 50), (2, 3), (50, 400), (1000, 20_000)]
)
def test_a_page_is_one_file_that_loads_and_runs_nothing(models: int, requests: int) -> None:
    text = page(run_of(models, requests))
    found = Elements(text)
    assert not {"script", "link", "img", "iframe", "base"} & set(found.tags)
    names = {name for name, _ in found.attributes}
    assert not {name for name in names if name.startswith("on")} | names & {"src", "href"}
    assert "url(" not in text and "@import" not in text
    assert "\x1b" not in text
    for svg in re.findall(r"<svg.*?</svg>", text, re.DOTALL):
        ElementTree.fromstring(svg)
        assert "nan" not in svg
    assert found.tags.count("svg") == (3 if models == 1 else 5)


def test_a_page_of_a_long_run_is_small() -> None:
    assert len(page(run_of(1000, 100_000))) < 1 << 20


def test_a_page_of_failures_only_can_be_drawn() -> None:
    tally = Tally(1)
    failed = Outcome(0, True, 0.0, 0.0, 0.5, None, 0, False, "EndpointConnectionError", "no")
    tally.add([failed], 1)
    text = page(run_of(1, 1, tally=tally, seconds=0.5))
    assert "EndpointConnectionError" in text


def test_the_summary_moves_no_cursor() -> None:
    text = summary(run_of(3, 40))
    assert "\x1b" not in text
    assert "4 x ModelError 500" in text


def test_the_figures_add_up() -> None:
    found = figures.as_json(run_of(5, 100))
    assert found["requests"] == 100 == found["answered"] + found["failed"]
    assert found["failed"] == found["errors"][0]["requests"] == 10
    assert sum(row["requests"] for row in found["per_model"]) == 100
    assert sum(sort["requests"] for sort in found["by_sort"].values()) == 100
    timeline = found["timeline"]
    assert sum(timeline["answered"]) + sum(timeline["errors"]) == sum(timeline["planned"]) == 100


def test_what_the_figures_do_not_tell_is_told_in_words() -> None:
    found = "\n".join(figures.client_words(run_of(1, 10, unsent=7, lost=1)))
    assert "7 requests had a time" in found
    assert "1 of our sending processes" in found
