"""What is worth showing of a document."""

from __future__ import annotations

from typing import Any

from modelyard.status.picture import Variant, endpoints, names
from tests.modelyard.status.documents import NOW, document, event, figures, instance, place, variant


def only(found: dict[str, Any], before: dict[str, Any] | None = None) -> Variant:
    """The only variant of the only endpoint."""
    ((one,),) = [endpoint.variants for endpoint in endpoints(found, None, before)]
    return one


def test_the_hottest_are_those_that_are_asked_most() -> None:
    asked = {"a": figures(5), "b": figures(50), "c": figures(7), "never": figures(0)}
    seen = only(document(variant(models=asked)))
    assert [model.target for model in seen.hottest(3)] == ["b", "c", "a"]
    assert [model.target for model in seen.hottest(1)] == ["b"]
    assert [model.target for model in seen.hottest(9)] == ["b", "c", "a"]
    assert {model.per_second for model in seen.models} == {None}


def test_between_two_looks_it_is_what_came_in_between() -> None:
    before = document(variant(models={"a": figures(100), "b": figures(10)}), time=NOW - 2)
    now = document(variant(models={"a": figures(101), "b": figures(30), "new": figures(4)}))
    seen = only(now, before)
    rates = {model.target: model.per_second for model in seen.hottest(3)}
    assert rates == {"b": 10.0, "new": 2.0, "a": 0.5}
    assert list(rates) == ["b", "new", "a"]


def test_an_endpoint_that_began_to_count_anew_has_no_rates() -> None:
    before = document(variant(models={"a": figures(100)}), time=NOW - 2)
    assert (
        only(document(variant(models={"a": figures(3)})), before).hottest(1)[0].per_second is None
    )
    same_time = document(variant(models={"a": figures(1)}))
    assert only(same_time, same_time).hottest(1)[0].per_second is None


def test_the_coldest_are_in_memory_and_were_not_used_for_longest() -> None:
    one = instance(
        place("old", last_used=NOW - 500),
        place("used", last_used=NOW - 1),
        place("evicted", last_used=NOW - 900, memory=0),
        place("on disk", "on_disk", last_used=NOW - 900),
        place("untold", last_used=NOW - 100, memory=None),
    )
    asked = {name: figures(last_invoked=None) for name in ("old", "used", "untold")}
    seen = only(document(variant(one, models=asked)))
    assert [model.target for model in seen.coldest(9)] == ["old", "untold", "used"]
    assert [model.memory for model in seen.coldest(2)] == [20 << 20, None]


def test_copies_of_a_model_are_one() -> None:
    two = [instance(place("m", requests=2), id=id) for id in ("one", "two")]
    (model,) = only(document(variant(*two, models={"m": figures(9)}))).models
    assert (len(model.loaded), model.memory, model.waiting) == (2, 40 << 20, 4)


def test_models_on_their_way_come_with_the_longest_queues_first() -> None:
    one = instance(
        place("short", "downloading", requests=1), place("long", "loading", requests=5), place("in")
    )
    seen = only(document(variant(one)))
    assert [model.target for model in seen.coming()] == ["long", "short"]


def test_what_left_memory_last_comes_first() -> None:
    events = (
        event("evict", "a", text="for b"),
        event("load", "b"),
        event("unload", "c", endpoint="other"),
        event("load_failed", "d"),
    )
    (endpoint,) = endpoints(document(variant(), events=events), "ep")
    assert [one.name for one in endpoint.departures] == ["d", "a"]
    assert endpoints(document(variant()), "other") == []


def test_what_happens_again_and_again_is_told_once() -> None:
    events = (
        event("evict", "a", text="for b"),
        event("load_failed", "a", text="first"),
        event("instance_lost"),
        event("load_failed", "a", text="last", instance="ep.v.0.1"),
        event("evict", "b"),
        event("evict", "b", variant="w"),
    )
    (endpoint,) = endpoints(document(variant(), events=events), None)
    told = [(one.event["kind"], one.name, one.times) for one in endpoint.departures]
    assert told == [
        ("evict", "b", 1), ("evict", "b", 1), ("load_failed", "a", 2),
        ("instance_lost", "ep.v.0.0", 1), ("evict", "a", 1),
    ]  # fmt: skip
    assert endpoint.departures[2].event["text"] == "last"


def test_variants_that_come_and_leave_are_told_apart() -> None:
    found = document(variant())
    found["endpoints"][0] |= {"coming": [variant(name="w")], "leaving": [variant(name="u")]}
    (endpoint,) = endpoints(found, None)
    assert [(one.name, one.state) for one in endpoint.variants] == [
        *(("v", ""), ("w", "coming"), ("u", "leaving"))
    ]
    assert names(found) == ["ep"]


def test_keys_that_are_not_there_are_nothing_that_is_known() -> None:
    bare = {"endpoints": [{"name": "ep", "variants": [{"name": "v", "instances": [{"id": "i"}]}]}]}
    seen = only(bare)
    assert (seen.models, seen.metrics, seen.hottest(5), seen.coldest(5)) == ([], {}, [], [])
