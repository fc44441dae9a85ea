"""What models were measured to take, kept across restarts.

A file of numbers and nothing else: losing it costs some wrong guesses, so nothing that is wrong
with it is an error. ``write`` blocks on the disk and belongs off the event loop; it may run while
the loop learns.
"""

from __future__ import annotations

import logging
import os
import stat
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Literal, NamedTuple

import msgspec

from model_server.memory.prediction import Sample, predict_gpu, predict_ram, predict_seconds

log = logging.getLogger("modelyard.learned")

REMEMBERED = 20_000

# How many models of a framework teach what the next will take.
_SAMPLES = 64

# How much the newest load counts against all before it.
_NEWEST_SHARE = 0.5

# Changes smaller than this are not worth a file.
_WORTH_WRITING = 0.05

_MAX_FILE_BYTES = 64 << 20

_Bytes = Annotated[int, msgspec.Meta(ge=0, le=1 << 50)]
_Seconds = Annotated[float, msgspec.Meta(ge=0, le=1e6)]


class Footprint(msgspec.Struct, frozen=True):
    """What a model with all its workers takes, and how long loading it does."""

    ram_bytes: _Bytes
    gpu_bytes: _Bytes
    load_seconds: _Seconds
    peak_bytes: _Bytes = 0  # of RAM, at the height of the load


class Artifact(NamedTuple):
    """What was loaded, as far as it decides what is taken."""

    url: str
    framework: str
    weight_bytes: int
    workers: int
    on_gpu: bool


class _Row(msgspec.Struct, frozen=True, array_like=True):
    url: str
    framework: str
    weight_bytes: _Bytes
    workers: Annotated[int, msgspec.Meta(ge=1)]
    on_gpu: bool
    took: Footprint


class _File(msgspec.Struct, frozen=True):
    version: Literal[1]
    models: list[_Row]


class Learned:
    """Footprints by artifact, the one learned last at the end, and what they say of others."""

    def __init__(self, path: str = "") -> None:
        self._path = path
        self._footprints: dict[Artifact, Footprint] = {}
        # The latest of each framework and kind of device, from which others are predicted.
        self._samples: dict[tuple[str, bool], dict[Artifact, Footprint]] = {}
        self._dirty = False
        self._complained = False

    @classmethod
    def read(cls, path: str) -> Learned:
        """What an earlier server has written, as far as it can be used; "": kept in memory only."""
        learned = cls(path)
        for row in _rows(path):
            artifact = Artifact(row.url, row.framework, row.weight_bytes, row.workers, row.on_gpu)
            learned._keep(artifact, row.took)
        return learned

    @property
    def dirty(self) -> bool:
        """Whether there is something worth writing."""
        return self._dirty and bool(self._path)

    def predict(self, artifact: Artifact) -> Footprint | None:
        """What this very artifact took, None when it was never loaded."""
        return self._footprints.get(artifact)

    def typical(
        self, framework: str, weight_bytes: int, workers: int, shared: bool, on_gpu: bool
    ) -> Footprint:
        """What an artifact never loaded will take, going by others of its framework.

        ``shared`` says that workers beyond the first are forked from a process with the weights.
        """
        seen = self._samples.get((framework, on_gpu), {}).items()
        ram = predict_ram(
            weight_bytes=weight_bytes,
            workers=workers,
            shared=shared,
            samples=[Sample(known.weight_bytes, took.ram_bytes) for known, took in seen],
        )
        gpu = predict_gpu(
            weight_bytes=weight_bytes,
            workers=workers,
            samples=[
                Sample(known.weight_bytes, took.gpu_bytes)
                for known, took in seen
                if took.gpu_bytes  # 0: the driver does not tell what a process uses
            ],
        )
        seconds = predict_seconds(
            weight_bytes=weight_bytes,
            samples=[
                Sample(known.weight_bytes, took.load_seconds)
                for known, took in seen
                if took.load_seconds
            ],
        )
        return Footprint(ram, gpu if on_gpu else 0, seconds)

    def learn(self, artifact: Artifact, took: Footprint) -> None:
        """Take what an artifact was measured to take.

        Bytes are taken as they are; load times are smoothed. Seconds of 0 say that there was no new
        load: the time that is known stays.
        """
        before = self._footprints.get(artifact)
        after = _smoothed(before, took)
        self._keep(artifact, after)
        if before is None or _changed(before, after):
            self._dirty = True

    def _keep(self, artifact: Artifact, took: Footprint) -> None:
        _put_last(self._footprints, artifact, took, REMEMBERED)
        if artifact.workers == 1:  # with more it is not known who shared what
            key = (artifact.framework, artifact.on_gpu)
            _put_last(self._samples.setdefault(key, {}), artifact, took, _SAMPLES)

    def write(self) -> None:
        """Write the file, whole or not at all. Blocks. When it fails, says so once."""
        if not self._path:
            return
        self._dirty = False
        known = self._footprints.copy()  # in one step, unlike list(): the loop may be learning
        rows = [_Row(*which, took) for which, took in known.items() if _is_text(which.url)]
        try:
            _replace(Path(self._path), msgspec.json.encode(_File(1, rows)))
        except OSError as error:
            self._dirty = True
            if not self._complained:
                log.warning("what models take is not kept for the next start: %s", error)
            self._complained = True
        else:
            self._complained = False


def _put_last(
    known: dict[Artifact, Footprint], artifact: Artifact, took: Footprint, limit: int
) -> None:
    known.pop(artifact, None)
    known[artifact] = took
    while len(known) > limit:
        del known[next(iter(known))]


def _smoothed(before: Footprint | None, took: Footprint) -> Footprint:
    if before is None or before.load_seconds == 0:
        return took
    seconds = before.load_seconds
    if took.load_seconds > 0:
        seconds += (took.load_seconds - seconds) * _NEWEST_SHARE
    return msgspec.structs.replace(took, load_seconds=seconds)


def _changed(before: Footprint, after: Footprint) -> bool:
    pairs = zip(msgspec.structs.astuple(before), msgspec.structs.astuple(after), strict=True)
    return any(abs(new - old) > _WORTH_WRITING * old for old, new in pairs)


def _is_text(url: str) -> bool:
    """Whether it can be written: a link may lead to a name that is not UTF-8."""
    try:
        url.encode()
    except UnicodeEncodeError:
        return False
    return True


def _rows(path: str) -> Iterator[_Row]:
    """The rows of a file; none, after a warning, when it is of no use."""
    if not path:
        return
    try:
        data = _content(path)
    except FileNotFoundError:
        return
    except (OSError, ValueError) as error:
        log.warning("what models take (%s) cannot be read (%s): it is learned anew", path, error)
        return
    try:
        yield from msgspec.json.decode(data, type=_File).models
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        log.warning(
            "what models take (%s) is of no use (%s): %s, and it is learned anew",
            path,
            error,
            _put_aside(path),
        )


def _content(path: str) -> bytes:
    """All of a file. Raises OSError, or ValueError when it is none of ours."""
    # Without waiting: a pipe would wait for somebody to write.
    with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise ValueError("it is not a file")
        data = file.read(_MAX_FILE_BYTES + 1)
    if len(data) > _MAX_FILE_BYTES:
        raise ValueError(f"it is larger than {_MAX_FILE_BYTES} bytes")
    return data


def _put_aside(path: str) -> str:
    """Keep a file for whoever wants to know, and say where."""
    try:
        Path(path).replace(f"{path}.bad")
    except OSError:
        return "the next write replaces it"
    return f"it is kept as {path}.bad"


def _replace(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, new = tempfile.mkstemp(prefix=f"{path.name}.", suffix=".new", dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
        Path(new).replace(path)
    except BaseException:
        with suppress(OSError):
            Path(new).unlink()
        raise
