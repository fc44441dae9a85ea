"""Changes, applied to the document before, give the document after."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from endpoint.page.changes import between, picture, whole
from tests.endpoint.page.feed_parts import applied, variants

# Others may keep the machine busy.
SLOWLY = settings(deadline=None, suppress_health_check=list(HealthCheck))

NAMES = st.sampled_from(["a", "b", "<b>c</b>", "d" * 1000, ""])
NUMBERS = st.integers(0, 3)
ROWS = st.dictionaries(NAMES, st.fixed_dictionaries({"invocations": NUMBERS}), max_size=4)
STATES = st.sampled_from(["loaded", "loading", "unloading", "on_disk"])
MODELS = st.dictionaries(
    NAMES, st.fixed_dictionaries({"state": STATES, "bytes": NUMBERS}), max_size=4
).map(lambda found: [{"target": target, **row} for target, row in found.items()])


@st.composite
def documents(draw: st.DrawFn) -> dict[str, Any]:
    """As GET /status has them; ids of instances are once in a document, and in the next again."""
    ids = iter("abcdefghijkl")
    measured: dict[str, Any] = {}

    def instance() -> dict[str, Any]:
        found: dict[str, Any] = {"id": next(ids), "requests": draw(NUMBERS)}
        if draw(st.booleans()):
            found["models"] = draw(MODELS)
        return found

    def variant(endpoint: str) -> dict[str, Any]:
        name = draw(st.sampled_from("vw"))
        rows = measured.setdefault(endpoint + name, draw(ROWS))
        instances = [instance() for _ in range(draw(st.integers(0, 2)))]
        return {"name": name, "weight": draw(NUMBERS), "models": rows, "instances": instances}

    def endpoint(name: str) -> dict[str, Any]:
        found: dict[str, Any] = {"name": name, "status": draw(st.sampled_from(["A", "B"]))}
        if draw(st.booleans()):
            found |= {
                "variants": [variant(name) for _ in range(draw(st.integers(0, 2)))],
                "leaving": [variant(name) for _ in range(draw(st.integers(0, 1)))],
            }
        return found

    endpoints = [endpoint(name) for name in draw(st.lists(st.sampled_from("xy"), unique=True))]
    return {"time": draw(NUMBERS), "endpoints": endpoints, "events": draw(st.lists(NUMBERS))}


def in_order(document: dict[str, Any]) -> dict[str, Any]:
    """Models in the order of their names: the order in which they come tells nothing."""
    for _, variant in variants(document):
        for instance in variant["instances"]:
            instance["models"].sort(key=lambda model: model["target"])
    return document


@SLOWLY
@given(st.lists(documents(), min_size=2, max_size=4))
def test_changes_one_after_the_other_give_the_last_document(all: list[dict[str, Any]]) -> None:
    pictures = [picture(document) for document in all]
    seen = whole(pictures[0], pictures[0].events)
    for before, now in pairwise(pictures):
        change = between(before, now)
        if change is not None:
            seen = applied(seen, change)
            assert (seen["time"], seen["events"]) == (now.time, now.events)
        wanted = whole(now, now.events)
        assert in_order(seen)["endpoints"] == in_order(wanted)["endpoints"]


@SLOWLY
@given(documents())
def test_the_same_document_is_no_change(document: dict[str, Any]) -> None:
    one = picture(document)
    assert between(one, picture({**document, "time": 17, "events": []})) is None
    told = between(one, picture({**document, "events": ["new"]}))
    assert told is not None
    assert (told["models"], told["metrics"], told["events"]) == ({}, {}, ["new"])


def test_of_two_versions_the_one_that_requests_get_is_told() -> None:
    def one(*states: str) -> Any:
        models = [{"target": "m", "state": state} for state in states]
        variant = {"name": "v", "instances": [{"id": "i", "models": models}]}
        endpoint = {"name": "e", "variants": [variant]}
        return picture({"endpoints": [endpoint], "events": []}).models["i"]["m"]["state"]

    assert one("unloading", "loaded") == "loaded"
    assert one("loaded", "downloading") == "loaded"
    assert one("on_disk", "downloading") == "downloading"
