"""The right values of a model's settings, and how its settings files are read.

One definition of ranges for the server's defaults and for what a model's own files say.
"""

from __future__ import annotations

import json
from math import isfinite
from pathlib import Path

from handlers.errors import ModelLoadError
from handlers.types import MAX_BATCH, is_device

_MAX_FILE_BYTES = 1 << 20
_SHOWN_CHARS = 60
_WEEK_SECONDS = 7 * 24 * 3600.0

# The least and the most of each number; floats may have a fraction.
RANGES: dict[str, tuple[int, int] | tuple[float, float]] = {
    "min_workers": (1, 1024),
    "max_workers": (1, 1024),
    "batch_size": (1, MAX_BATCH),
    "max_batch_delay_ms": (0.0, 60_000.0),
    "request_timeout_seconds": (0.001, _WEEK_SECONDS),
    "threads": (1, 1024),
    "max_memory_bytes": (0, 10**15),
}
SWITCHES = ("pinned", "share_weights")
KEYS = (*RANGES, "device", *SWITCHES)


def problem_of(name: str, value: object) -> str | None:
    """What is wrong with the value of a setting, or None."""
    expected = _expected(name)
    if name in RANGES:
        right = _is_in_range(value, *RANGES[name])
    elif name in SWITCHES:
        right = isinstance(value, bool)
    else:
        right = isinstance(value, str) and is_device(value)
    return None if right else f"{name} is {shown(value)}; it must be {expected}"


def _expected(name: str) -> str:
    if name in SWITCHES:
        return "true or false"
    if name not in RANGES:
        return '"auto", "cpu", "cuda" or "cuda:N"'
    kind = "a whole number" if isinstance(RANGES[name][0], int) else "a number"
    return f"{kind} from {range_of(name)}"


def range_of(name: str) -> str:
    """The least and the most of a number, in words."""
    least, most = RANGES[name]
    return f"{least} to {most}" if isinstance(least, int) else f"{least:g} to {most:.10g}"


def _is_in_range(value: object, least: float, most: float) -> bool:
    types = int if isinstance(least, int) else (int, float)
    if isinstance(value, bool) or not isinstance(value, types):
        return False
    assert isinstance(value, int | float)
    return least <= value <= most and isfinite(value)


def shown(value: object) -> str:
    """A value as it stands in the file, cut when it is long."""
    if isinstance(value, list | dict):  # may be huge when YAML's aliases are followed
        return "a list" if isinstance(value, list) else "a table"
    try:
        text = json.dumps(value, ensure_ascii=False, default=str)
    except ValueError:  # Python's limit on the digits of an int
        return "a number of thousands of digits"
    return text if len(text) <= _SHOWN_CHARS else f"{text[:_SHOWN_CHARS]}…"


def refused(message: str) -> ModelLoadError:
    """The error that a settings file ends a load with; ``message`` has no full stop."""
    return ModelLoadError(f"{message}.", status=400)


def read_text(path: Path, file: str) -> str:
    """The text of a settings file, without the byte order mark of editors on Windows."""
    try:
        if path.stat().st_size > _MAX_FILE_BYTES:
            raise refused(f"{file} has more than {_MAX_FILE_BYTES} bytes; it is no settings file")
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise refused(f"{file} is not UTF-8 (byte {error.start}); save it as UTF-8") from error
    except OSError as error:
        raise refused(f"{file} cannot be read: {error.strerror}") from error
