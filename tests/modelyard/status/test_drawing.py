"""How endpoints look, on terminals of any width."""

from __future__ import annotations

import io
from typing import Any

import pytest
from rich.cells import cell_len
from rich.console import Console

from modelyard.status import drawing, picture, words
from modelyard.status.drawing import Room
from modelyard.status.words import Bar, Name, Parts, Reason
from tests.modelyard.status.documents import (
    MIB,
    NOW,
    document,
    event,
    figures,
    instance,
    lately,
    place,
    variant,
)

LONG = "customers/" + "x" * 1000 + "/churn.tar.gz"
HOSTILE = "<b>\x1b[2J\x1b]0;title\x07\r\n\u202e[red]m[/red].tar.gz"


def console(width: int, encoding: str = "utf-8") -> Console:
    """Whose lines can be read."""
    file = io.TextIOWrapper(io.BytesIO(), encoding=encoding, errors="replace")
    return Console(file=file, width=width, markup=False, highlight=False, emoji=False)


def lines(what: Any, width: int, encoding: str = "utf-8") -> list[str]:
    """What is printed."""
    on = console(width, encoding)
    on.print(what)
    on.file.seek(0)
    return [line.rstrip() for line in on.file.read().splitlines()]


def shown(found: dict[str, Any], width: int = 100, encoding: str = "utf-8", **room: int) -> str:
    """A document."""
    room = {"models": 5, "events": 5, **room}
    drawn = drawing.drawn(picture.endpoints(found, None), NOW, Room(width=width, **room))
    found_lines = lines(drawn, width, encoding)
    assert max(map(cell_len, found_lines)) <= width
    return "\n".join(found_lines)


def full() -> dict[str, Any]:
    """A document with everything in it."""
    asked = {
        "a.tar.gz": figures(41, latency_ms=lately(2.5, 80), errors=2, last_invoked=None),
        LONG: figures(7, last_invoked=None),
        HOSTILE: figures(3),
    }
    one = instance(
        place("a.tar.gz", last_used=NOW - 300, requests=1),
        place("b.tar.gz", "loading", requests=4),
        place(LONG, last_used=NOW - 7200),
        place(HOSTILE),
        gpus=[{"index": 0, "used": 2048 * MIB, "limit": 16384 * MIB, "utilization_percent": 55.0}],
    )
    lost = instance(id="ep.v.0.1", state="lost", memory=None, cpu_percent=None, loaded=0)
    events = (
        event("evict", "c.tar.gz", text="for a.tar.gz, which was loaded: 20 MiB freed"),
        event("load_failed", HOSTILE, text=f"its code\x1b[31m raised\n{LONG}"),
        event("instance_lost", text="its process has ended"),
    )
    return document(variant(one, lost, models=asked), events=events)


def test_what_an_endpoint_is_and_does() -> None:
    text = shown(full(), 130)
    for part in (
        "ep InService",
        "v · 1 of 2 instances serving · weight 1",
        "12 invokes/s · 1,234 in all · 2 failed · 7 cold starts · 5 evictions",
        "model p50 3.2 ms, p99 61.0 ms",
        "overhead p50 0.42 ms, p99 2.1 ms",
        "cold starts waited p50 84.0 ms, p99 1.3 s",
        "██░░░░░░ 512 MiB of 2.0 GiB",
        "100 MiB of 30.0 GiB",
        "37 %",
        "2.0 GiB of 16.0 GiB",
        "55 %",
        "ep.v.0.1 lost",
        "evicted",
        "for a.tar.gz, which was loaded: 20 MiB freed",
        "load failed",
        "instance lost",
    ):
        assert part in text


def test_models_have_lists_of_their_own() -> None:
    def rows(title: str) -> list[list[str]]:
        _, _, after = text.partition(title)
        return [line.split() for line in after.split("\n\n")[0].splitlines()[1:]]

    text = shown(full(), 130)
    assert rows("on their way") == [["b.tar.gz", "loading", "4"]]
    assert rows("hottest")[0] == ["a.tar.gz", "loaded", "41", "2.5", "ms", "80.0", "ms", "1", "2"]
    coldest = rows("coldest in memory")
    assert [row[-5:-3] for row in coldest][:2] == [["2", "h"], ["5", "min"]]
    assert coldest[1][0] == "a.tar.gz"


@pytest.mark.parametrize("width", [20, 40, 60, 76, 80, 100, 200])
def test_it_keeps_to_the_width(width: int) -> None:
    text = shown(full(), width)
    assert "InSe" in text
    assert "\x1b" not in text
    assert "\u202e" not in text


@pytest.mark.parametrize("width", [60, 80, 100])
def test_names_give_way_before_numbers(width: int) -> None:
    text = shown(full(), width)
    for part in ("cpu", "runs", "loaded", "512 MiB", "37 %"):
        assert part in text


def test_a_narrow_terminal_has_room_for_names_instead_of_less_important_figures() -> None:
    name = "customers/0001/churn.tar.gz"
    asked = {name: figures(3, latency_ms=lately(2, 80))}
    one = document(variant(instance(place(name)), models=asked))
    heads = {width: shown(one, width).partition("hottest")[2].split() for width in (60, 80, 100)}
    assert heads[60][:4] == ["invokes", "p50", "failed", name]
    assert heads[80][:6] == ["invokes", "p50", "p99", "cold", "failed", name]
    assert heads[100][:7] == ["state", "invokes", "p50", "p99", "cold", "failed", name]


def test_names_in_a_list_stay_different() -> None:
    names = [f"customers/customer-{number:04}-churn-prediction.tar.gz" for number in (1, 2, 10, 11)]
    asked = {name: figures() for name in (*names, "other.tar.gz")}
    text = shown(document(variant(models=asked)), 60)
    for number in (1, 2, 10, 11):
        assert f"customers/customer-{number:04}" in text


def test_reasons_that_are_long_or_told_often_leave_room_for_others() -> None:
    long = event("load_failed", "bad.tar.gz", text="it cannot be served " * 100)
    events = (event("evict", "a.tar.gz", text="for b.tar.gz"), *([long] * 30))
    found = document(variant(), events=events)
    for reasons in (1, 3):
        _, _, text = shown(found, 60, reasons=reasons).partition("left memory last\n")
        first, *reason, last = text.splitlines()
        assert first.split()[1:] == ["load", "failed", "x30", "bad.tar.gz"]
        assert len(reason) == reasons
        assert reason[-1].endswith("…")
        assert last.split()[1:] == ["evicted", "a.tar.gz", "for", "b.tar.gz"]


def test_a_terminal_of_ascii_gets_ascii_bars() -> None:
    text = shown(full(), 100, "ascii")
    assert "##......" in text
    assert text.isascii()


def test_lists_are_as_long_as_there_is_room_for() -> None:
    asked = {f"m{number}": figures(number + 1) for number in range(50)}
    many = document(variant(*(instance(id=f"i{n}") for n in range(20)), models=asked))
    text = shown(many, models=3, instances=4)
    assert "and 16 more" in text
    assert [name for name in ("m49", "m48", "m47", "m46") if name in text] == ["m49", "m48", "m47"]
    assert "hottest" not in shown(many, models=0)
    assert "left memory" not in shown(full(), events=0)


def test_without_an_endpoint_it_says_what_to_do() -> None:
    assert "create one" in shown({"endpoints": []})


def test_an_endpoint_of_which_little_is_known() -> None:
    bare = {"endpoints": [{"name": "ep", "variants": [{"name": "v", "instances": [{"id": "i"}]}]}]}
    assert "0 of 1 instance serving" in shown(bare)


# --- words --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "width", "text"),
    [
        ("model.tar.gz", 12, "model.tar.gz"),
        ("model.tar.gz", 11, "model….gz"),
        ("customers/0001/churn.tar.gz", 15, "custome…tar.gz"),
        ("模型模型模型.tar.gz", 12, "模型….tar.gz"),
    ],
)
def test_names_are_cut_in_the_middle(name: str, width: int, text: str) -> None:
    (line,) = lines(Name(name), width)
    assert cell_len(line) <= width
    front, _, back = text.partition("…")
    assert line.startswith(front[:2])
    assert line.endswith(back[-3:])


@pytest.mark.parametrize(
    ("others", "width", "text"),
    [
        (["a-1-same-end", "a-2-same-end"], 8, "a-1-sa…d"),
        (["same-begin-1", "same-begin-2"], 8, "sam…in-1"),
        (["nothing like", "another word"], 8, "noth…ike"),
        (["only one there"], 8, "only…ere"),
    ],
)
def test_names_keep_what_no_other_has(others: list[str], width: int, text: str) -> None:
    (line,) = lines(Name(others[0], shared=words.shared(others)[0]), width)
    assert line == text


@pytest.mark.parametrize(
    ("used", "limit", "text"),
    [
        (0, 10, "░░░░"), (5, 10, "██░░"), (10, 10, "████"), (20, 10, "████"), (1, 0, "░░░░"),
        (1, 64, "░░░░"), (1, 32, "▏░░░"), (-1, 10, "░░░░"),
    ],
)  # fmt: skip
def test_bars(used: float, limit: float, text: str) -> None:
    assert lines(Bar(used, limit, 4), 10) == [text]


@pytest.mark.parametrize(
    ("reason", "text"),
    [
        ("one two", ["one two"]),
        ("one two three", ["one two", "three"]),
        ("one two three four", ["one two", "three f…"]),
        ("letters-of-one-word", ["letters-", "of-one-…"]),
    ],
)
def test_reasons(reason: str, text: list[str]) -> None:
    assert lines(Reason(reason, 2), 8) == text


def test_parts_of_a_line_are_not_broken() -> None:
    assert lines(Parts(("one two", ""), ("three four", ""), ("five", "")), 20) == [
        *("one two · three four", "five")
    ]
    assert lines(
        Parts(
            ("longer than there is", ""),
        ),
        10,
    ) == ["longer", "than there", "is"]


@pytest.mark.parametrize(
    ("found", "text"),
    [
        (words.shown_bytes(None), "-"), (words.shown_bytes(0), "0 B"),
        (words.shown_bytes(1023), "1023 B"), (words.shown_bytes(1024), "1.0 KiB"),
        (words.shown_bytes(1.5 * MIB), "1.5 MiB"), (words.shown_bytes(1023.9 * MIB), "1.0 GiB"),
        (words.shown_bytes(512 * MIB), "512 MiB"), (words.shown_bytes(3 << 50), "3072 TiB"),
        (words.milliseconds(None), "-"), (words.milliseconds(0.42), "0.42 ms"),
        (words.milliseconds(4.2), "4.2 ms"), (words.milliseconds(420), "420 ms"),
        (words.milliseconds(999.9), "1.0 s"), (words.milliseconds(61_000), "61.0 s"),
        (words.rate(None), "-"), (words.rate(0), "0"), (words.rate(0.34), "0.3"),
        (words.rate(9.99), "10"), (words.rate(1240.4), "1,240"),
        (words.ago(None), "never"), (words.ago(-3), "now"), (words.ago(0.2), "now"),
        (words.ago(59), "59 s"), (words.ago(119), "1 min"), (words.ago(7300), "2 h"),
        (words.ago(200_000), "2 d"),
    ],
)  # fmt: skip
def test_numbers(found: str, text: str) -> None:
    assert found == text
