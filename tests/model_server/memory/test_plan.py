"""Whatever is in memory: a plan frees enough, from whom it may, and no more than is needed."""

from __future__ import annotations

from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from model_server.memory.ledger import RAM, Ledger
from model_server.memory.plan import Move, Need, Outcome, Plan, held_back, make_plan
from model_server.memory.policies import CostAware, Lru, Platform, Policy
from model_server.memory.resident import Resident
from model_server.memory.usage import Usage

NOW = 1000.0
GPU = "gpu0"


def usage(every: float = 10.0, uses: int = 5, idle: float = 1.0) -> Usage:
    found = Usage()
    for step in range(uses - 1, -1, -1):
        found.used(NOW - idle - every * step)
    return found


def resident(name: str, size: int, *, every: float = 10.0, uses: int = 5) -> Resident:
    return Resident(name, {RAM: size}, 1.0, usage(every, uses))


def ledgers(residents: list[Resident], limit: int, gpu_limit: int = 0) -> dict[str, Ledger]:
    held = {name: sum(r.held.get(name, 0) for r in residents) for name in (RAM, GPU)}
    return {
        RAM: Ledger(RAM, limit, 0, held[RAM]),
        GPU: Ledger(GPU, gpu_limit, 0, held[GPU]),
    }


def plan(size: int, residents: list[Resident], limit: int, policy: Policy | None = None) -> Plan:
    need = Need("new", {RAM: size})
    return make_plan(need, residents, ledgers(residents, limit), policy or CostAware(), now=NOW)


def names(found: Plan) -> list[str]:
    return [victim.resident.name for victim in found.victims]


def test_the_least_worth_leaves() -> None:
    found = plan(10, [resident("hot", 10, every=1), resident("cold", 10, every=100)], 20)
    assert (found.outcome, names(found)) == (Outcome.EVICT, ["cold"])
    assert [(kept.resident.name, kept.reason) for kept in found.kept] == [("hot", "worth more")]


def test_small_victims_are_spared_when_a_large_one_was_needed_anyway() -> None:
    found = plan(90, [resident("small", 10, every=2000), resident("large", 100, every=100)], 110)
    assert names(found) == ["large"]
    assert [(kept.resident.name, kept.reason) for kept in found.kept] == [("small", "not needed")]


def test_what_is_more_than_all_models_may_take_is_refused_with_the_sizes() -> None:
    found = plan(2 << 20, [], 1 << 20)
    assert found.outcome is Outcome.REFUSE
    assert "2 MiB" in found.reason
    assert "1 MiB" in found.reason


def test_pinned_models_refuse_what_only_they_could_make_room_for() -> None:
    pinned = resident("pinned", 60)
    pinned.pinned = True
    found = plan(50, [pinned, resident("other", 40)], 100)
    assert found.outcome is Outcome.REFUSE
    assert "1 pinned" in found.reason
    assert names(plan(40, [pinned, resident("other", 40)], 100)) == ["other"]


def test_busy_and_new_models_are_waited_for_and_counted() -> None:
    busy = [resident(f"busy-{number}", 10) for number in range(8)]
    for each in busy:
        each.busy = lambda: True
    young = Resident("young", {RAM: 20}, 5.0, usage(), ready_at=NOW)
    found = plan(50, [*busy, young], 100)
    assert found.outcome is Outcome.WAIT
    assert "8 busy, 1 loaded just now" in found.reason


def test_a_new_model_may_leave_once_it_was_used_or_its_time_is_over() -> None:
    young = Resident("young", {RAM: 20}, 5.0, usage(idle=3), ready_at=NOW - 1)
    assert held_back(young, NOW) == "loaded just now"
    assert held_back(young, NOW + 10) == ""
    young.usage.used(NOW)
    assert held_back(young, NOW) == ""


def test_platform_evicts_nothing() -> None:
    found = plan(50, [resident("a", 80)], 100, Platform())
    assert found.outcome is Outcome.REFUSE
    assert "platform evicts nothing" in found.reason
    assert plan(20, [resident("a", 80)], 100, Platform()).outcome is Outcome.FITS


def on_gpu(name: str, parked: int | None, size: int = 50) -> Resident:
    return Resident(
        name, {RAM: 10, GPU: size}, 5.0, usage(), parked_bytes=parked, unpark_seconds=0.1
    )


def plan_gpu(residents: list[Resident], ram: int) -> Plan:
    need = Need("new", {GPU: 50})
    return make_plan(need, residents, ledgers(residents, ram, 60), CostAware(), now=NOW)


def test_a_model_on_a_gpu_is_parked_where_its_weights_fit_into_ram() -> None:
    (victim,) = plan_gpu([on_gpu("a", 60)], 100).victims
    assert (victim.move, victim.frees(GPU), victim.frees(RAM)) == (Move.PARK, 50, -50)


def test_a_model_is_evicted_when_parking_it_finds_no_room_or_is_not_possible() -> None:
    (victim,) = plan_gpu([on_gpu("a", 60)], 30).victims
    assert victim.move is Move.EVICT
    (victim,) = plan_gpu([on_gpu("a", None)], 100).victims
    assert victim.move is Move.EVICT


def test_others_leave_ram_for_what_is_parked() -> None:
    found = plan_gpu([on_gpu("a", 60), resident("cold", 80, every=5000)], 100)
    assert {v.resident.name: v.move for v in found.victims} == {"a": Move.PARK, "cold": Move.EVICT}


def test_a_large_newcomer_waits_for_a_second_request_while_thrashing() -> None:
    hot = [resident(f"hot-{number}", 20) for number in range(5)]
    need = Need("new", {RAM: 100}, usage(uses=1))
    now = {"residents": hot, "ledgers": ledgers(hot, 100), "policy": CostAware(), "now": NOW}
    assert make_plan(need, thrashing=True, **now).outcome is Outcome.WAIT  # type: ignore[arg-type]
    assert make_plan(need, thrashing=False, **now).outcome is Outcome.EVICT  # type: ignore[arg-type]
    again = Need("new", {RAM: 100}, usage(uses=2))
    assert make_plan(again, thrashing=True, **now).outcome is Outcome.EVICT  # type: ignore[arg-type]
    small = Need("new", {RAM: 40}, usage(uses=1))
    assert make_plan(small, thrashing=True, **now).outcome is Outcome.EVICT  # type: ignore[arg-type]


def test_of_thousands_the_least_worth_leave_in_their_order() -> None:
    many = [resident(f"m{number}", 10, every=10.0 + number) for number in range(2000)]
    found = plan(1000, many, 20_000)
    assert set(names(found)) == {f"m{number}" for number in range(1900, 2000)}


@st.composite
def resident_of(draw: st.DrawFn, number: int) -> Resident:
    gpu = draw(st.sampled_from([0, 0, 10, 40]))
    ram = draw(st.integers(0, 50))
    held = {RAM: ram, GPU: gpu} if gpu else {RAM: ram}
    busy = draw(st.booleans()) and draw(st.booleans())
    return Resident(
        f"m{number}",
        held,
        draw(st.floats(0, 10)),
        usage(draw(st.floats(0.1, 500)), draw(st.integers(0, 4)), draw(st.floats(0, 100))),
        ready_at=draw(st.sampled_from([0.0, NOW - 0.05, NOW])),
        pinned=draw(st.integers(0, 7)) == 0,
        parked_bytes=ram + gpu if gpu and draw(st.booleans()) else None,
        parked_device_bytes=draw(st.integers(0, gpu)),
        unpark_seconds=0.1,
        busy=lambda: busy,
    )


@st.composite
def scenes(draw: st.DrawFn) -> tuple[Need, list[Resident], dict[str, Ledger], Policy]:
    residents = [draw(resident_of(number)) for number in range(draw(st.integers(0, 9)))]
    spare = draw(st.integers(-20, 60)), draw(st.integers(-20, 60))
    room = ledgers(residents, 0)
    room = {
        name: Ledger(name, max(each.held_bytes + more, 0), 0, each.held_bytes)
        for (name, each), more in zip(room.items(), spare, strict=True)
    }
    wanted = draw(st.dictionaries(st.sampled_from([RAM, GPU]), st.integers(0, 120), min_size=1))
    name = draw(st.sampled_from(["new", "m0"]))
    need = Need(name, wanted, usage(uses=draw(st.integers(0, 2))))
    policies: list[Policy] = [CostAware(), Lru(), Platform()]
    return need, residents, room, draw(st.sampled_from(policies))


@given(scene=scenes(), thrashing=st.booleans())
def test_a_plan_frees_enough_from_those_who_may_leave_and_from_no_one_more(
    scene: tuple[Need, list[Resident], dict[str, Ledger], Policy], thrashing: bool
) -> None:
    need, residents, room, policy = scene
    found = make_plan(need, residents, room, policy, now=NOW, thrashing=thrashing)
    fits = all(count <= room[name].free_bytes for name, count in need.held.items())
    assert (found.outcome is Outcome.FITS) == fits
    if found.outcome is not Outcome.EVICT:
        assert found.reason or fits
        assert fits <= (not found.victims)
        return
    assert policy.evicts
    assert len({*names(found)}) == len(found.victims) > 0
    for victim in found.victims:
        assert held_back(victim.resident, NOW) == ""
        assert victim.resident.name != need.name
    for left_out in (None, *found.victims):
        enough = True
        for name in (RAM, GPU):
            freed = sum(v.frees(name) for v in found.victims if v is not left_out)
            if name in need.held:
                enough &= room[name].free_bytes + freed >= need.held[name]
            elif freed < 0:
                enough &= max(room[name].free_bytes, 0) + freed >= 0
        assert enough == (left_out is None)


@pytest.mark.parametrize("policy", [CostAware(), Lru()])
def test_the_same_scene_makes_the_same_plan_and_changes_nothing(policy: Policy) -> None:
    many = [resident(f"m{number}", 10, every=10.0 + number % 7) for number in range(40)]
    before = [(r.usage.uses, dict(r.held)) for r in many]
    assert names(plan(95, many, 400, policy)) == names(plan(95, many, 400, policy))
    assert before == [(r.usage.uses, dict(r.held)) for r in many]
    assert policy.keep(many[0], RAM, 1.0, NOW) < inf


def test_what_a_parked_model_keeps_of_the_device_is_not_freed() -> None:
    parkable = [
        Resident(
            f"m{number}",
            {RAM: 10, GPU: 50},
            1.0,
            usage(),
            parked_bytes=60,
            parked_device_bytes=20,
        )
        for number in range(2)
    ]
    here = ledgers(parkable, 1000, 100)
    found = make_plan(Need("new", {GPU: 60}), parkable, here, Lru(), now=NOW)
    assert (found.outcome, len(found.victims)) == (Outcome.EVICT, 2)
    assert [victim.frees(GPU) for victim in found.victims] == [30, 30]
    too_much = make_plan(Need("new", {GPU: 70}), parkable, here, Lru(), now=NOW)
    assert {victim.move for victim in too_much.victims} == {Move.EVICT}
