"""The table of what a model's ``modelyard.toml`` may set."""

from __future__ import annotations

from documentation.tables import code, table
from handlers.directory.setting_values import KEYS, RANGES, SWITCHES, range_of
from handlers.types import ModelSettings

_MEANINGS = {
    "min_workers": "processes that the model always has, so requests it handles at once",
    "max_workers": "processes it may have while requests wait; at least `min_workers`",
    "batch_size": "requests handed together to a handler that takes lists, at most",
    "max_batch_delay_ms": "milliseconds that a batch waits to fill",
    "request_timeout_seconds": "limit of one request; then 504, and a stuck process is replaced",
    "threads": "computing threads in each process",
    "max_memory_bytes": "memory that each process of the model may take; 0: what all models have "
    "together ([what happens above it]"
    "(../concepts/memory.md#when-a-model-outgrows-its-memory))",
    "device": "where the model runs; `auto`: a GPU if there is one",
    "pinned": "the model is never evicted",
    "share_weights": "further processes are forked from the loaded model where that is safe",
}


def keys() -> str:
    """Every key with its range."""
    assert set(_MEANINGS) == set(KEYS), "a key of modelyard.toml is not described, or gone"
    rows = [(code(key), _values(key), _default(key), _MEANINGS[key]) for key in KEYS]
    return table(("key", "values", "the server's default", "meaning"), rows)


def _values(key: str) -> str:
    if key in RANGES:
        return range_of(key)
    return "`true`, `false`" if key in SWITCHES else '`"auto"`, `"cpu"`, `"cuda"`, `"cuda:N"`'


def _default(key: str) -> str:
    value = getattr(ModelSettings(), key)
    return code(
        str(value).lower()
        if isinstance(value, bool)
        else f"{value:g}"
        if isinstance(value, float)
        else value
    )
