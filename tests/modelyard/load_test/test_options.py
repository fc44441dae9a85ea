"""What can be asked for, and what is refused before anything is sent."""

from __future__ import annotations

import argparse

import pytest

from modelyard import quantities
from modelyard.load_test import options


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--rate", "0"], "'0' must be a number greater than 0"),
        (["--rate", "nan"], "'nan' must be"),
        (["--concurrency", "0"], "whole number from 1"),
        (["--duration", "5 parsecs"], "such as 30s, 5m or 1h"),
        (["--duration", "0"], "must be a time"),
        (["--rate", "1", "--concurrency", "2"], "not allowed with"),
        (["--zipf", "1", "--trace", "t.csv"], "not allowed with"),
        (["--zipf", "-1"], "--zipf"),
        (["--speed", "2"], "--speed is for a --trace"),
        (["--by-rank"], "--by-rank is for a --trace"),
        (["--trace", "t.csv", "--rate", "5", "--speed", "2"], "without --rate"),
        (["--max-in-flight", "5"], "a closed loop has --concurrency"),
        (["--processes", "5"], "not more than 4 in flight"),
        (["--body", "a", "--data", "b"], "not allowed with"),
        (["--aws", "--url", "http://x"], "not allowed with"),
        (["--models", "a", "--models-from", "b"], "not allowed with"),
    ],
)
def test_what_cannot_be_meant_is_told(
    arguments: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        options.parse(["ep", *arguments])
    assert ended.value.code == 2
    assert told in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "seconds"), [("30s", 30), ("30", 30), ("1.5m", 90), ("2h", 7200), ("500ms", 0.5)]
)
def test_times_are_as_people_write_them(text: str, seconds: float) -> None:
    assert quantities.duration(text) == seconds


def test_a_pause_may_be_none() -> None:
    assert quantities.pause("0") == quantities.pause("0s") == 0
    with pytest.raises(argparse.ArgumentTypeError):
        quantities.pause("-1")
