"""Numbers as people write them on a command line: 30s, 5m, 1000."""

from __future__ import annotations

import argparse
import math
import re

_SECONDS = {"ms": 0.001, "s": 1.0, "": 1.0, "m": 60.0, "h": 3600.0}
_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|)")


def duration(text: str) -> float:
    """Seconds, of "30s", "5m", "1.5h", "500ms" or "30"."""
    found = _DURATION.fullmatch(text)
    if found is None or float(found[1]) * _SECONDS[found[2]] <= 0:
        raise argparse.ArgumentTypeError(f"{text!r} must be a time, such as 30s, 5m or 1h")
    return float(found[1]) * _SECONDS[found[2]]


def pause(text: str) -> float:
    """Seconds, as ``duration``; 0 too."""
    return 0.0 if re.fullmatch(r"0+(\.0+)?(ms|s|m|h)?", text) else duration(text)


def count(text: str) -> int:
    """A whole number from 1."""
    found = whole(text)
    if found < 1:
        raise argparse.ArgumentTypeError(f"{text!r} must be a whole number from 1")
    return found


def whole(text: str) -> int:
    """A whole number from 0."""
    digits = text.replace("_", "").replace(",", "")
    if not digits.isascii() or not digits.isdecimal() or len(digits) > 12:
        raise argparse.ArgumentTypeError(f"{text!r} must be a whole number from 0")
    return int(digits)


def positive(text: str) -> float:
    """A number greater than 0."""
    found = not_negative(text)
    if found == 0:
        raise argparse.ArgumentTypeError(f"{text!r} must be a number greater than 0")
    return found


def not_negative(text: str) -> float:
    """A number from 0."""
    try:
        found = float(text)
    except ValueError:
        found = math.nan
    if not 0 <= found < 1e9:
        raise argparse.ArgumentTypeError(f"{text!r} must be a number from 0")
    return found
