"""A plan becomes a record with all that it was made from, and the log of them stays small."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import msgspec

from model_server import wire
from model_server.memory.decisions import Choice, Decision, DecisionLog, decision_of
from model_server.memory.ledger import RAM, Ledger
from model_server.memory.plan import Need, make_plan
from model_server.memory.policies import CostAware, Platform, Policy
from model_server.memory.resident import Resident
from model_server.memory.usage import Usage
from model_server.settings import MIB

NOW = 10_000.0
AT = 1_700_000_000.0


def resident(
    name: str, mebibytes: int, *, every: float | None = 600.0, ready_at: float = 0.0
) -> Resident:
    """Used ``every`` so many seconds, and for the last time a minute ago."""
    usage = Usage()
    if every is not None:
        for times in reversed(range(10)):
            usage.used(NOW - 60 - times * every)
    return Resident(name, {RAM: mebibytes * MIB}, 1.0, usage, ready_at)


def decided(
    need_mebibytes: int,
    residents: Sequence[Resident] = (),
    *,
    limit_mebibytes: int = 1000,
    policy: Policy | None = None,
    name: str = "new",
) -> Decision:
    policy = policy or CostAware()
    held = sum(each.held[RAM] for each in residents)
    ledgers = {RAM: Ledger(RAM, limit_mebibytes * MIB, 100 * MIB, held)}
    need = Need(name, {RAM: need_mebibytes * MIB})
    plan = make_plan(need, residents, ledgers, policy, now=NOW)
    return decision_of(
        plan, need, ledgers, cause="load", policy=policy.name, thrashing=False, at=AT, now=NOW
    )


def choice(name: str) -> Choice:
    return Choice(name, "evict", "", RAM, MIB, 1.0, 1.0, 1.0, 1.0, 1.0)


def decision(name: str, victims: Sequence[Choice] = (), kept: Sequence[Choice] = ()) -> Decision:
    return Decision(
        0, AT, name, "load", "lru", {}, {}, "fits", victims=list(victims), kept=list(kept)
    )


def best_seconds(work: Callable[[], object], rounds: int = 30) -> float:
    taken = []
    for _ in range(rounds):
        begun = time.perf_counter()
        work()
        taken.append(time.perf_counter() - begun)
    return min(taken)


def test_what_fits_is_recorded_with_need_and_what_was_free() -> None:
    record = decided(50, [resident("a", 300)])
    assert (record.outcome, record.cause, record.policy) == ("fits", "load", "cost_aware")
    assert (record.model_name, record.at) == ("new", AT)
    assert (record.need_bytes, record.free_bytes) == ({RAM: 50 * MIB}, {RAM: 600 * MIB})
    assert (record.victims, record.kept, record.reason) == ([], [], "")


def test_who_left_and_who_stayed_is_recorded_with_what_they_were_worth() -> None:
    record = decided(700, [resident("cheap", 400), resident("dear", 100, every=60)])
    (victim,) = record.victims
    (kept,) = record.kept
    assert record.outcome == "evict"
    assert (victim.model_name, victim.move, victim.freed_bytes) == ("cheap", "evict", 400 * MIB)
    assert (kept.model_name, kept.move, kept.reason) == ("dear", "keep", "worth more")
    assert (kept.ledger, kept.freed_bytes) == (RAM, 100 * MIB)
    assert victim.worth is not None
    assert kept.worth is not None
    assert victim.worth < kept.worth
    assert victim.idle_seconds == 60
    assert victim.expected_return_seconds is not None
    assert abs(victim.expected_return_seconds * victim.uses_per_hour - 3600) < 1e-6
    assert kept.uses_per_hour > victim.uses_per_hour * 2


def test_a_model_that_was_never_used_has_no_number_for_what_is_not_known() -> None:
    record = decided(700, [resident("unused", 400, every=None)])
    (victim,) = record.victims
    assert victim.uses_per_hour == 0
    assert (victim.worth, victim.idle_seconds, victim.expected_return_seconds) == (None, None, None)


def test_a_refusal_is_recorded_with_its_sizes() -> None:
    record = decided(950)
    assert record.outcome == "refuse"
    assert "950 MiB" in record.reason
    assert "900 MiB" in record.reason
    record = decided(600, [resident("a", 600)], policy=Platform())
    assert (record.outcome, record.victims) == ("refuse", [])
    assert "platform evicts nothing" in record.reason


def test_a_model_that_cannot_leave_is_recorded_with_why() -> None:
    record = decided(700, [resident("young", 400, ready_at=NOW - 0.01)])
    assert record.outcome == "wait"
    assert [(kept.model_name, kept.reason) for kept in record.kept] == [
        ("young", "loaded just now")
    ]


def test_a_parked_model_is_recorded_with_what_its_return_takes() -> None:
    gpu = Resident("on-gpu", {RAM: MIB, "gpu0": 900 * MIB}, 5.0, parked_bytes=2 * MIB)
    gpu.unpark_seconds = 0.1
    ledgers = {
        RAM: Ledger(RAM, 1000 * MIB, 0, MIB),
        "gpu0": Ledger("gpu0", 1000 * MIB, 0, 900 * MIB),
    }
    need = Need("new", {RAM: MIB, "gpu0": 500 * MIB})
    plan = make_plan(need, [gpu], ledgers, CostAware(), now=NOW)
    record = decision_of(
        plan, need, ledgers, cause="load", policy="lru", thrashing=True, at=AT, now=NOW
    )
    (victim,) = record.victims
    assert (victim.move, victim.ledger, victim.reload_seconds) == ("park", "gpu0", 0.1)
    assert record.thrashing


def test_a_record_crosses_the_socket_and_becomes_json_unchanged() -> None:
    record = decided(700, [resident("a", 400), resident("b", 100)])
    record.grew_bytes = {RAM: (1, 2)}
    found = wire.DecisionsFound([record])
    assert msgspec.msgpack.decode(wire.encode(found), type=wire.DecisionsFound) == found
    text = msgspec.json.encode(record)
    assert msgspec.json.decode(text, type=Decision) == record
    assert b'"modelName"' in text


def test_the_newest_come_first_and_no_more_than_asked_for() -> None:
    log = DecisionLog()
    for name in "abc":
        log.add(decision(name))
    assert [each.model_name for each in log.about(None, 2)] == ["c", "b"]
    assert [each.number for each in log.about(None, 10)] == [3, 2, 1]


def test_one_can_ask_about_whom_it_was_made_for_who_left_and_who_stayed() -> None:
    log = DecisionLog()
    log.add(decision("a"))
    log.add(decision("b", victims=[choice("a")]))
    log.add(decision("c", victims=[choice("b")], kept=[choice("a")]))
    log.add(decision("d", victims=[choice("b")]))
    assert [each.model_name for each in log.about("a", 10)] == ["c", "b", "a"]
    assert [each.model_name for each in log.about("a", 1)] == ["c"]
    assert log.about("unheard of", 10) == []


def test_the_oldest_are_forgotten_when_there_are_too_many() -> None:
    log = DecisionLog(remembered=3)
    for name in "abcde":
        log.add(decision(name))
    assert [each.model_name for each in log.about(None, 10)] == ["e", "d", "c"]


def test_decisions_about_very_many_models_are_forgotten_sooner_but_never_the_last() -> None:
    log = DecisionLog(remembered_choices=100)
    for _ in range(3):
        log.add(decision("a", victims=[choice("x")] * 40))
    assert len(log.about(None, 10)) == 2
    log.add(decision("all", victims=[choice("x")] * 500))
    assert [each.model_name for each in log.about(None, 10)] == ["all"]
    log.add(decision("small"))
    assert [each.model_name for each in log.about(None, 10)] == ["small"]


def test_recording_what_fits_costs_microseconds() -> None:
    log = DecisionLog()
    residents = [resident("a", 300)]
    plan_seconds = best_seconds(lambda: [decided(50, residents) for _ in range(100)]) / 100
    record = decided(50, residents)

    def add_many() -> None:
        for _ in range(100):
            log.add(record)

    assert plan_seconds + best_seconds(add_many) / 100 < 200e-6  # some 15 where nothing else runs


def test_asking_about_one_model_among_very_many_is_fast() -> None:
    log = DecisionLog()
    for number in range(4000):
        log.add(decision(f"m{number}", victims=[choice("x")] * 5, kept=[choice("y")] * 5))
    assert len(log.about(None, 10_000)) == 2000
    assert log.about("nobody", 100) == []
    assert best_seconds(lambda: log.about("nobody", 100), rounds=5) < 0.05  # some 0.002


def test_a_load_that_failed_is_noted_where_its_room_was_made() -> None:
    log = DecisionLog()
    for name in ("a", "b", "a"):
        log.add(decision(name))
    log.failed("a", "no such module", AT)
    log.failed("unknown", "x", AT)
    assert [each.failure for each in log.about(None, 9)] == ["no such module", "", ""]
    log.failed("b", "before it had asked for room", AT + 1)
    refused = decision("b")
    refused.outcome = "refuse"
    log.add(refused)
    log.failed("b", "there was no room", AT)
    assert [each.failure for each in log.about("b", 9)] == ["", ""]
    assert msgspec.json.decode(msgspec.json.encode(log.about("a", 1)[0]))["failure"]


def test_how_long_it_took_until_there_was_room_is_noted() -> None:
    log = DecisionLog()
    log.add(decision("a"))
    log.add(decision("b", victims=[choice("a")]))
    log.waited("a", 1.23456)
    log.waited("c", 9.0)
    assert [each.waited_seconds for each in log.about(None, 9)] == [0.0, 1.235]


def test_all_that_could_not_leave_are_counted_and_uses_are_known() -> None:
    room = {RAM: Ledger(RAM, 20 * MIB, 0, 20 * MIB)}
    busy = [
        Resident(f"m{n}", {RAM: MIB}, 1.0, Usage(uses=2, last_used=5.0), busy=lambda: True)
        for n in range(20)
    ]
    need = Need("new", {RAM: MIB})
    plan = make_plan(need, busy, room, CostAware(), now=10.0)
    found = decision_of(
        plan, need, room, cause="load", policy="cost_aware", thrashing=False, at=AT, now=10.0
    )
    assert found.held_back == {"busy": 20}
    assert len(found.kept) < 20
    assert {each.uses for each in found.kept} == {2}
