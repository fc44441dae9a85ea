"""Decisions as sentences: the whole sentence is compared, since people read it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta, timezone
from functools import partial

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from model_server import wire
from model_server.memory.decisions import Choice, Decision
from model_server.memory.ledger import RAM
from model_server.memory.phrases import Times, joined, named, shown_rate, shown_seconds
from model_server.memory.standing import since, standing
from model_server.memory.wording import told
from model_server.settings import MIB

AT = datetime(2026, 11, 23, 14, 3, 11, tzinfo=UTC).timestamp()
TODAY = Times(AT + 600, partial(datetime.fromtimestamp, tz=UTC))


def choice(
    name: str,
    reason: str = "",
    *,
    move: str = "keep",
    mebibytes: int = 812,
    worth: float | None = 1.0,
    uses_per_hour: float = 6.7,
    ledger: str = RAM,
    reload_seconds: float = 0.4,
) -> Choice:
    back = 3600 / uses_per_hour if uses_per_hour else None
    idle = 240.0 if uses_per_hour else None
    return Choice(
        name,
        move,
        reason,
        ledger,
        mebibytes * MIB,
        worth,
        uses_per_hour,
        reload_seconds,
        idle,
        back,
    )


def left(name: str, *, mebibytes: int = 812, move: str = "evict", ledger: str = RAM) -> Choice:
    return choice(name, move=move, mebibytes=mebibytes, ledger=ledger)


def decision(
    outcome: str,
    *,
    cause: str = "load",
    need: dict[str, int] | None = None,
    free: dict[str, int] | None = None,
    reason: str = "",
    waited: float = 0.0,
    victims: Sequence[Choice] = (),
    kept: Sequence[Choice] = (),
    policy: str = "cost_aware",
    grew: dict[str, tuple[int, int]] | None = None,
) -> Decision:
    return Decision(
        1,
        AT,
        "churn-eu",
        cause,
        policy,
        need if need is not None else {RAM: 900 * MIB},
        free if free is not None else {RAM: 100 * MIB},
        outcome,
        reason,
        waited_seconds=waited,
        victims=list(victims),
        kept=list(kept),
        grew_bytes=grew or {},
    )


EVICTED = decision(
    "evict",
    victims=[left("a")],
    kept=[
        choice("held", "pinned"),
        choice("fraud-us", "worth more", worth=2.7, uses_per_hour=40, mebibytes=120),
    ],
)


def test_a_model_that_left_is_told_for_whom_and_who_was_kept() -> None:
    assert told(EVICTED, "a", TODAY) == (
        "evicted at 14:03:11 for churn-eu: 812 MiB freed, expected return in 9 min, reload 0.4 s; "
        "kept fraud-us because it was worth 3.2 times as much per MiB "
        "(40 uses an hour, reload 0.4 s, 120 MiB; a 6.7 uses an hour, reload 0.4 s, 812 MiB); "
        "kept held because it is pinned"
    )


def test_a_model_that_was_parked_is_told_what_stays() -> None:
    parked = decision("evict", victims=[left("a", move="park", ledger="gpu0")])
    assert told(parked, "a", TODAY) == (
        "parked at 14:03:11 for churn-eu: 812 MiB of gpu0 freed, weights kept in RAM, "
        "expected return in 9 min, return 0.4 s"
    )


def test_a_model_that_was_never_used_is_not_expected_back() -> None:
    unused = choice("a", move="evict", uses_per_hour=0, worth=None)
    text = told(decision("evict", victims=[unused]), "a", TODAY)
    assert text.endswith("812 MiB freed, never used, reload 0.4 s")
    kept = choice("b", "worth more", uses_per_hour=1)
    text = told(decision("evict", victims=[unused], kept=[kept]), "b", TODAY)
    assert text.endswith(
        "it was worth more (1 use an hour, reload 0.4 s, 812 MiB; "
        "a never used, reload 0.4 s, 812 MiB)"
    )


def test_the_model_that_made_others_leave_is_told_who_did() -> None:
    assert told(EVICTED, "churn-eu", TODAY) == (
        "loaded at 14:03:11: about 900 MiB needed, 100 MiB free, so a (812 MiB) was evicted"
    )
    many = decision("evict", victims=[left(f"m{n}", mebibytes=n) for n in range(1, 7)])
    assert told(many, "churn-eu", TODAY).endswith(
        "so m6 (6 MiB), m5 (5 MiB), m4 (4 MiB) and 3 others were evicted"
    )
    both = decision("evict", victims=[left("a"), left("b", move="park", ledger="gpu0")])
    assert told(both, "churn-eu", TODAY).endswith(
        "so a (812 MiB) was evicted and b (812 MiB) was parked"
    )


def test_what_fitted_is_told_with_its_sizes() -> None:
    assert told(decision("fits", free={RAM: 2000 * MIB}), "churn-eu", TODAY) == (
        "loaded at 14:03:11: about 900 MiB needed, 2000 MiB free"
    )
    gpu = decision(
        "fits",
        cause="return",
        need={RAM: MIB, "gpu0": 2 * MIB},
        free={RAM: 3 * MIB, "gpu0": 4 * MIB},
    )
    assert told(gpu, "churn-eu", TODAY) == (
        "brought back at 14:03:11: about 1 MiB of RAM and 2 MiB of gpu0 needed, "
        "3 MiB of RAM and 4 MiB of gpu0 free"
    )
    worker = decision("fits", cause="worker")
    assert told(worker, "churn-eu", TODAY).startswith("given another process at 14:03:11: about")


def test_a_return_that_had_to_wait_is_told_how_long() -> None:
    waited = decision("evict", cause="return", waited=2.14, victims=[left("a")])
    assert told(waited, "churn-eu", TODAY).startswith(
        "brought back at 14:03:11 after waiting 2.1 s for room: about 900 MiB needed"
    )


def test_a_refusal_is_told_with_its_reason() -> None:
    reason = "the model needs about 900 MiB, and the policy platform evicts nothing"
    refused = decision("refuse", reason=reason, policy="platform")
    assert told(refused, "churn-eu", TODAY) == f"refused (507) at 14:03:11: {reason}"
    worker = decision("refuse", reason="r", cause="worker")
    assert told(worker, "churn-eu", TODAY) == "not given another process at 14:03:11: r"


def test_a_wait_in_vain_is_told_with_whom_it_was_for() -> None:
    busy = [choice("a", "busy"), choice("b", "busy"), choice("c", "loaded just now")]
    refused = decision("wait", cause="return", reason="r", waited=5.0, kept=busy)
    assert told(refused, "churn-eu", TODAY) == (
        "not brought back (507) at 14:03:11 after waiting 5 s for "
        "a and b (busy) and c (loaded just now): r"
    )
    assert told(refused, "a", TODAY) == (
        "kept at 14:03:11 when churn-eu needed 900 MiB and found no room: it was busy"
    )


def test_a_newcomer_that_was_held_off_spared_those_it_would_have_pushed_out() -> None:
    guarded = decision("wait", victims=[left("a")], reason="it would push out 5 models")
    assert told(guarded, "a", TODAY) == (
        "spared at 14:03:11: churn-eu was refused: it would push out 5 models"
    )


@pytest.mark.parametrize(
    ("reason", "why"),
    [
        ("pinned", "it is pinned"),
        ("busy", "it was busy"),
        ("loaded just now", "it had been loaded just before"),
        ("not needed", "enough was freed without it"),
        ("something new", "something new"),
    ],
)
def test_a_model_that_was_kept_is_told_why(reason: str, why: str) -> None:
    kept = decision("evict", victims=[left("a")], kept=[choice("b", reason)])
    assert told(kept, "b", TODAY) == (
        f"kept at 14:03:11 when churn-eu needed 900 MiB and a (812 MiB) was evicted: {why}"
    )


@pytest.mark.parametrize(
    ("worth", "words"),
    [
        (1.0, "slightly more per MiB"),
        (2.0, "2.0 times as much per MiB"),
        (6.0, "32 times as much per MiB"),
        (500.0, "far more per MiB"),
        (0.5, "more ("),
    ],
)
def test_worths_are_compared_by_what_each_mebibyte_saves(worth: float | None, words: str) -> None:
    kept = choice("b", "worth more", worth=worth)
    text = told(decision("evict", victims=[left("a")], kept=[kept]), "b", TODAY)
    assert f"it was worth {words}" in text


def test_under_lru_the_times_of_use_are_compared() -> None:
    kept = choice("b", "worth more", worth=2e9)
    text = told(decision("evict", victims=[left("a")], kept=[kept], policy="lru"), "b", TODAY)
    assert text.endswith("it was used later (4 min before, a 4 min before)")


def test_a_model_that_grew_is_told_from_what_to_what_and_what_came_of_it() -> None:
    none, over = {RAM: 0, "gpu0": 0}, {RAM: -20 * MIB, "gpu0": 5 * MIB}
    grew = {RAM: (100 * MIB, 300 * MIB)}
    grown = decision("evict", cause="growth", need=none, free=over, victims=[left("a")], grew=grew)
    assert told(grown, "churn-eu", TODAY) == (
        "grew from 100 MiB to 300 MiB at 14:03:11, 20 MiB over the limit: a (812 MiB) was evicted"
    )
    assert told(grown, "a", TODAY).startswith("evicted at 14:03:11 for churn-eu, which grew: 812")
    stuck = decision("wait", cause="growth", need=none, free=over, kept=[choice("b", "busy")])
    assert told(stuck, "churn-eu", TODAY) == (
        "grew at 14:03:11, 20 MiB over the limit: nobody could leave: b (busy)"
    )
    assert told(stuck, "b", TODAY) == (
        "kept at 14:03:11 when churn-eu grew and found no room: it was busy"
    )


def test_a_full_device_is_told_with_who_made_room() -> None:
    need = {"gpu0": 900 * MIB}
    full = decision("evict", cause="device", need=need, free={"gpu0": 0}, victims=[left("a")])
    assert told(full, "churn-eu", TODAY) == (
        "out of memory on gpu0 during a request at 14:03:11: a (812 MiB) was evicted"
    )


def test_a_day_that_is_not_today_is_told() -> None:
    tomorrow = Times(AT + 86400, partial(datetime.fromtimestamp, tz=UTC))
    assert told(EVICTED, "a", tomorrow).startswith("evicted at 2026-11-23 14:03:11 for churn-eu")


def test_times_are_local_ones() -> None:
    east = Times(AT, partial(datetime.fromtimestamp, tz=timezone(timedelta(hours=11))))
    assert told(EVICTED, "a", east).startswith("evicted at 01:03:11 for churn-eu")
    assert Times(AT - 3 * 3600, east.local).told(AT) == "2026-11-24 01:03:11"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 s"),
        (0.0001, "1 ms"),
        (0.04, "40 ms"),
        (0.4, "0.4 s"),
        (2.0, "2 s"),
        (9.94, "9.9 s"),
        (9.96, "10 s"),
        (99, "99 s"),
        (540, "9 min"),
        (7200, "2 h"),
        (3600 * 50, "50 h"),
        (86400 * 30, "30 days"),
    ],
)
def test_durations_are_small_numbers(seconds: float, text: str) -> None:
    assert shown_seconds(seconds) == text


@pytest.mark.parametrize(
    ("rate", "text"),
    [
        (0, "never used"),
        (0.01, "hardly used any more"),
        (0.5, "0.5 uses an hour"),
        (1.0, "1 use an hour"),
        (12.3, "12 uses an hour"),
        (98765, "98,765 uses an hour"),
    ],
)
def test_rates_are_by_the_hour(rate: float, text: str) -> None:
    assert shown_rate(rate) == text


@given(st.text(max_size=300))
def test_no_name_reaches_a_terminal_as_more_than_a_short_line(name: str) -> None:
    text = named(name)
    assert text.isprintable()
    assert len(text) < 200 * 10 + 10
    assert told(decision("evict", victims=[left(name)]), name, TODAY).isprintable()


def test_names_that_could_mislead_are_quoted() -> None:
    assert named("churn-eu") == "churn-eu"
    assert named("a b.tar.gz") == "a b.tar.gz"
    assert named(" x") == "' x'"
    assert named("a\x1b[31mb\n") == r"'a\x1b[31mb\n'"
    assert named("'x'") == "\"'x'\""


def test_lists_end_after_a_few() -> None:
    assert [joined(list("abcdef"[:n])) for n in range(6)] == [
        "",
        "a",
        "a and b",
        "a, b and c",
        "a, b, c and d",
        "a, b, c and 2 others",
    ]


def memory(name: str, *, state: str = "READY", worth: float | None = 1.0) -> wire.ModelMemory:
    return wire.ModelMemory(
        name, state, "sklearn", False, {RAM: 120 * MIB}, 0.4, 7, 12.0, 3.0, worth, 0
    )


def info(*models: wire.ModelMemory) -> wire.MemoryInfo:
    return wire.MemoryInfo("cost_aware", False, [], list(models), [])


def test_where_a_model_stands_is_one_sentence() -> None:
    a, b = memory("a", worth=1.0), memory("b", worth=2.0)
    gone = memory("c", state="EVICTED", worth=None)
    assert standing(b, info(a, b, gone), " since 14:03:11") == (
        "in memory since 14:03:11, 120 MiB, reload 0.4 s, used 7 times, last 3 s ago, "
        "12 uses an hour, worth more than 1 of the 2 models that may leave"
    )
    assert standing(a, info(a, b)).endswith(
        "worth least of all: first to leave when memory is short"
    )
    gone = msgspec.structs.replace(gone, evictions=2)
    assert standing(gone, info(a, b, gone)) == (
        "evicted, held 120 MiB, reload 0.4 s, used 7 times, last 3 s ago, 12 uses an hour, "
        "evicted 2 times, its next request brings it back"
    )
    once = msgspec.structs.replace(gone, uses=1)
    assert "reload 0.4 s, used once, 3 s ago, evicted 2 times" in standing(once, info(a, once))
    unused = msgspec.structs.replace(a, pinned=True, uses=0, idle_seconds=None)
    assert standing(unused, info(unused)) == (
        "in memory, 120 MiB, reload 0.4 s, never used, pinned"
    )


def test_since_when_follows_from_the_decisions_that_are_remembered() -> None:
    model = memory("churn-eu")
    assert since(model, [EVICTED], TODAY) == " since 14:03:11"
    assert since(model, [], TODAY) == ""
    assert since(model, [decision("refuse")], TODAY) == ""
    gone = memory("a", state="EVICTED")
    assert since(gone, [EVICTED], TODAY) == " at 14:03:11"
    assert since(gone, [decision("wait", victims=[left("a")])], TODAY) == ""
    assert since(memory("a", state="LOADING"), [EVICTED], TODAY) == ""


def test_a_load_that_failed_is_told_so_and_why() -> None:
    failed = msgspec.structs.replace(EVICTED, failure="no module\nnamed \x1b[31mfoo")
    assert told(failed, "churn-eu", TODAY) == (
        "load failed, begun at 14:03:11: no module named �[31mfoo; "
        "about 900 MiB needed, 100 MiB free, so a (812 MiB) was evicted"
    )
    assert told(failed, "a", TODAY).startswith(
        "evicted at 14:03:11 for churn-eu, whose load failed: 812 MiB freed"
    )
    assert since(memory("churn-eu"), [failed], TODAY) == ""
    back = decision("fits", cause="return", waited=2.0)
    back.failure = "x" * 500
    text = told(back, "churn-eu", TODAY)
    assert text.startswith("return failed, begun at 14:03:11 after waiting 2 s for room: xxx")
    assert "x…; about 900 MiB needed" in text


def test_growth_that_only_the_kernel_saw_is_told_by_what_others_left_for() -> None:
    seen = decision("evict", cause="growth", need={RAM: 50 * MIB}, victims=[left("m6")])
    assert told(seen, "churn-eu", TODAY) == (
        "others had to leave at 14:03:11 for 50 MiB in use beyond what was counted: "
        "m6 (812 MiB) was evicted"
    )
    reason = "the model needs about 50 MiB, and the policy platform evicts nothing"
    stuck = decision("refuse", cause="growth", need={RAM: 50 * MIB}, reason=reason)
    assert told(stuck, "churn-eu", TODAY) == (
        f"others should have left at 14:03:11 for 50 MiB in use beyond what was counted: {reason}"
    )


def test_of_many_busy_models_only_some_are_named_but_all_are_counted() -> None:
    busy = [choice(name, "busy") for name in "abcd"]
    waited = decision("wait", waited=5.0, reason="r", kept=[*busy, choice("p", "pinned")])
    waited.held_back = {"busy": 40, "pinned": 2}
    assert "for a, b, c and 37 others (busy) and p and 1 other (pinned): r" in told(
        waited, "churn-eu", TODAY
    )
    growth = decision("wait", cause="growth", kept=busy[:1])
    growth.held_back = {"busy": 3}
    assert told(growth, "churn-eu", TODAY).endswith("nobody could leave: a and 2 others (busy)")


def once(each: Choice) -> Choice:
    return msgspec.structs.replace(each, uses=1, idle_seconds=0.4)


def test_from_a_single_use_no_rate_is_told() -> None:
    kept = choice("b", "worth more", worth=2.0)
    both = decision("evict", victims=[once(left("a"))], kept=[once(kept)])
    assert "812 MiB freed, used once, 0.4 s before, reload 0.4 s" in told(both, "a", TODAY)
    assert told(both, "b", TODAY).endswith(
        "2.0 times as much per MiB (used once, 0.4 s before, reload 0.4 s, 812 MiB; "
        "a used once, 0.4 s before, reload 0.4 s, 812 MiB)"
    )


def test_the_scale_of_another_policy_is_not_guessed() -> None:
    kept = choice("b", "worth more", worth=2e9)
    other = decision("evict", victims=[left("a")], kept=[kept], policy="mine")
    assert ": it was ranked higher by mine (6.7 uses" in told(other, "b", TODAY)


def test_a_model_whose_worth_is_unknown_is_not_worth_more() -> None:
    kept = choice("b", "worth more", worth=None)
    text = told(decision("evict", victims=[left("a")], kept=[kept]), "b", TODAY)
    assert ": enough was freed without it (6.7 uses" in text


def test_a_model_that_could_not_be_parked_is_told_so() -> None:
    tried = decision("evict", victims=[choice("a", "could not be parked", move="evict")])
    assert told(tried, "a", TODAY).startswith(
        "evicted at 14:03:11 for churn-eu: 812 MiB freed, could not be parked, expected"
    )


@pytest.mark.parametrize(
    ("state", "ledger", "count", "words"),
    [
        ("PARKED", "gpu0", 1, "parked once"),
        ("EVICTED", "gpu0", 1, "evicted once"),
        ("READY", "gpu0", 1, "left memory once"),
        ("PARKED", "gpu0", 2, "left memory 2 times"),
        ("READY", RAM, 1, "evicted once"),
    ],
)
def test_how_often_a_model_left_is_told(state: str, ledger: str, count: int, words: str) -> None:
    model = msgspec.structs.replace(
        memory("a", state=state), held_bytes={RAM: MIB, ledger: MIB}, evictions=count
    )
    assert f", {words}, " in standing(model, info(model))


def test_only_models_that_may_leave_are_ranked() -> None:
    a, b = memory("a", worth=1.0), memory("b", worth=2.0)
    busy = msgspec.structs.replace(memory("c", worth=0.5), busy=True)
    pinned = msgspec.structs.replace(memory("d", worth=0.5), pinned=True)
    unused = msgspec.structs.replace(memory("e", worth=None), uses=0, idle_seconds=None)
    everybody = info(a, b, busy, pinned)
    assert standing(b, everybody).endswith("worth more than 1 of the 2 models that may leave")
    assert "worth" not in standing(busy, everybody)
    assert "worth more than 2 of the 3" in standing(b, info(a, b, unused))
    assert standing(unused, info(a, unused)).endswith("first to leave when memory is short")
