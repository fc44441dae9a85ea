"""A recorded or made-up series of uses, in little memory: what ``modelyard replay`` goes over."""

from __future__ import annotations

import csv
from array import array
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

# Where a trace does not tell what a reload takes: a start, and reading the bytes.
START_SECONDS = 0.5
BYTES_PER_SECOND = 200e6

_NAME_CHARS = 80
_GZIP = b"\x1f\x8b"


class TraceError(Exception):
    """Raised for a trace that cannot be used, with one line that says why."""


def counted(number: int, noun: str) -> str:
    """Such as "1 model" and "1,234 models"."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def modelled_seconds(size_bytes: int) -> float:
    """What a reload takes where nobody measured it."""
    return START_SECONDS + size_bytes / BYTES_PER_SECOND


@contextmanager
def readable(path: Path) -> Iterator[None]:
    """Tell what is no text, or no CSV, by a TraceError."""
    with path.open("rb") as file:
        if file.read(2) == _GZIP:
            raise TraceError(f"{path.name} is compressed: unpack it first")
    try:
        yield
    except UnicodeDecodeError as error:
        raise TraceError(f"{path.name} is not text in UTF-8: {error.reason}") from None
    except csv.Error as error:
        raise TraceError(f"{path.name} is not CSV that can be read: {error}") from None


class _Sized(msgspec.Struct, rename="camel"):
    model_name: str
    held_bytes: dict[str, int] = {}
    reload_seconds: float = 0.0


class _Answer(msgspec.Struct):
    models: list[_Sized]


def saved_sizes(paths: Sequence[Path]) -> dict[str, tuple[int, float]]:
    """Bytes and reload seconds by model, from saved answers of ``GET /memory``, the last counting.

    Raises TraceError for what is none.
    """
    found: dict[str, tuple[int, float]] = {}
    for path in paths:
        found |= _sizes(path)
    return found


def _sizes(path: Path) -> dict[str, tuple[int, float]]:
    try:
        answer = msgspec.json.decode(path.read_bytes(), type=_Answer)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise TraceError(f"{path} is not a saved answer of GET /memory: {error}") from None
    found = {}
    for each in answer.models:
        size = sum(each.held_bytes.values())
        if size > 0:
            found[each.model_name] = (size, each.reload_seconds or modelled_seconds(size))
    return found


@dataclass
class Trace:
    """Uses in the order of time: when and, by number, of which model.

    ``notes`` tell what was left out or assumed.
    """

    names: list[str] = field(default_factory=list)
    size_bytes: list[int] = field(default_factory=list)
    reload_seconds: list[float] = field(default_factory=list)
    times: array[float] = field(default_factory=lambda: array("d"))
    models: array[int] = field(default_factory=lambda: array("L"))
    notes: list[str] = field(default_factory=list)
    _numbers: dict[str, int] = field(default_factory=dict)

    def number(self, name: str) -> int:
        """The number of a model; it gets one when it has none."""
        number = self._numbers.get(name)
        if number is None:
            number = self._numbers[name] = len(self.names)
            self.names.append(name)
            self.size_bytes.append(0)
            self.reload_seconds.append(-1.0)
        return number

    def add(self, at: float, number: int) -> None:
        """Add a use."""
        self.times.append(at)
        self.models.append(number)

    def uses(self) -> Iterator[tuple[float, int]]:
        """When, and of which model."""
        return zip(self.times, self.models, strict=True)

    @property
    def total_bytes(self) -> int:
        """What all models that are used would take together."""
        return sum(self.size_bytes[number] for number in set(self.models))

    def finish(self, sizes: Mapping[str, tuple[int, float]]) -> Trace:
        """Fill in sizes and reload seconds that the trace did not tell.

        Uses of models whose size nobody knows are left out. Raises TraceError when there is no use,
        or none is left.
        """
        if not self.times:
            raise TraceError("there is no use of a model in it")
        for number, name in enumerate(self.names):
            size, seconds = sizes.get(name, (0, -1.0))
            self.size_bytes[number] = self.size_bytes[number] or size
            if self.reload_seconds[number] < 0:
                self.reload_seconds[number] = seconds
        self._leave_out_unknown()
        self._model_reloads()
        return self

    def _leave_out_unknown(self) -> None:
        used = sorted(set(self.models))
        unknown = {number for number in used if not self.size_bytes[number]}
        if not unknown:
            return
        example = self.names[min(unknown)]
        example = f"{example[:_NAME_CHARS]!r}{'…' if len(example) > _NAME_CHARS else ''}"
        models = counted(len(unknown), "model")
        if len(unknown) == len(used):
            raise TraceError(
                f"the size of {models} is not known, {example} for one: give a saved answer of "
                "GET /memory with --sizes, or a column `bytes`"
            )
        before = len(self.times)
        left = [(at, number) for at, number in self.uses() if number not in unknown]
        self.times = array("d", (at for at, _ in left))
        self.models = array("L", (number for _, number in left))
        uses = counted(before - len(left), "use")
        self.notes.append(f"{uses} of {models} left out: the size is not known, as of {example}")

    def _model_reloads(self) -> None:
        missing = [n for n in sorted(set(self.models)) if self.reload_seconds[n] < 0]
        for number in missing:
            self.reload_seconds[number] = modelled_seconds(self.size_bytes[number])
        if missing:
            self.notes.append(
                f"reload seconds of {counted(len(missing), 'model')} are modelled: "
                f"{START_SECONDS:g} s and {BYTES_PER_SECOND / 1e6:g} MB a second"
            )
