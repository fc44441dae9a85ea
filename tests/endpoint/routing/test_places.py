"""Where a request for a model goes."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from endpoint.routing.places import Place, Where, choose
from endpoint.specs import Routing

GIB = 1 << 30
EMPTY = Place("a", Where.ABSENT, 0, 0, 0, GIB)

PLACES = st.lists(
    st.builds(
        Place,
        st.text("abcdef", min_size=1, max_size=3),
        st.sampled_from(Where),
        st.integers(0, 20),
        st.integers(0, 100),
        st.integers(0, GIB),
        st.integers(0, GIB),
    ),
    min_size=1,
    max_size=8,
    unique_by=lambda place: place.instance,
)
DICE = st.floats(0, 1, exclude_max=True)


def place(instance: str, where: Where, **known: int) -> Place:
    return replace(EMPTY, instance=instance, where=where, **known)


def least(*places: Place) -> str | None:
    return choose(places, key="m", routing=Routing.LEAST_OUTSTANDING, dice=0.0)


def test_without_instances_there_is_no_place() -> None:
    assert least() is None
    assert choose([], key="m", routing=Routing.RANDOM, dice=0.5) is None


def test_a_model_in_memory_is_used_there_however_busy_it_is() -> None:
    busy = place("b", Where.LOADED, model_requests=9, requests=90, loaded_bytes=GIB)
    assert least(EMPTY, busy, place("c", Where.LOADING), place("d", Where.ON_DISK)) == "b"


def test_a_request_waits_for_a_load_rather_than_start_another() -> None:
    assert least(EMPTY, place("c", Where.LOADING, requests=50), place("d", Where.ON_DISK)) == "c"


def test_a_model_on_disk_is_loaded_there() -> None:
    assert least(EMPTY, place("d", Where.ON_DISK, loaded_bytes=GIB, requests=9)) == "d"


def test_of_two_copies_the_one_with_fewer_requests_of_the_model_is_used() -> None:
    first = place("a", Where.LOADED, model_requests=2, requests=2)
    second = place("b", Where.LOADED, model_requests=1, requests=70)
    assert least(first, second) == "b"
    assert least(replace(first, model_requests=1), second) == "a"


def test_a_new_model_goes_where_most_memory_is_left_then_most_disk_then_fewest_requests() -> None:
    full = place("a", Where.ABSENT, loaded_bytes=5)
    narrow = place("b", Where.ABSENT, free_disk_bytes=1)
    busy = place("c", Where.ABSENT, requests=1)
    assert least(full, narrow, busy, place("d", Where.ABSENT)) == "d"
    assert least(full, narrow, busy) == "c"
    assert least(full, narrow) == "b"


def test_random_routing_takes_each_copy_and_no_instance_without_one() -> None:
    copies = [place("a", Where.LOADED, model_requests=9), place("b", Where.LOADED), EMPTY]
    taken = Counter(
        choose(copies, key="m", routing=Routing.RANDOM, dice=step / 100) for step in range(100)
    )
    assert taken == {"a": 50, "b": 50}


def test_random_routing_does_not_spread_a_model_that_is_nowhere_in_memory() -> None:
    places = [place(name, Where.ABSENT) for name in "abcd"]
    taken = {choose(places, key="m", routing=Routing.RANDOM, dice=n / 10) for n in range(10)}
    assert len(taken) == 1


def test_new_models_spread_over_empty_instances_and_few_move_when_one_more_comes() -> None:
    four = [place(name, Where.ABSENT) for name in "abcd"]
    before = {
        key: choose(four, key=key, routing=Routing.RANDOM, dice=0) for key in map(str, range(400))
    }
    assert all(60 < count < 140 for count in Counter(before.values()).values())
    five = [*four, place("e", Where.ABSENT)]
    after = {key: choose(five, key=key, routing=Routing.RANDOM, dice=0) for key in before}
    assert {after[key] for key in before if after[key] != before[key]} == {"e"}


@given(PLACES, st.sampled_from(Routing), DICE)
def test_some_instance_among_the_nearest_is_always_taken(
    places: list[Place], routing: Routing, dice: float
) -> None:
    chosen = choose(places, key="m", routing=routing, dice=dice)
    (taken,) = [each for each in places if each.instance == chosen]
    assert taken.where is min(each.where for each in places)


@given(PLACES, st.text())
def test_a_load_goes_to_the_same_instance_in_whatever_order_they_are_told(
    places: list[Place], key: str
) -> None:
    absent = [replace(each, where=Where.ABSENT) for each in places]
    shuffled = sorted(absent, key=lambda each: each.instance[::-1])
    chosen = {
        choose(order, key=key, routing=Routing.LEAST_OUTSTANDING, dice=0)
        for order in (absent, shuffled)
    }
    assert len(chosen) == 1
