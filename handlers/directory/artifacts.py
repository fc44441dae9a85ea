"""Files that hold weights: how they are told by name, and which one of several is the model."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

# What counts towards the predicted size of a model, whoever may read it.
WEIGHT_EXTENSIONS = frozenset(
    {
        *(".bin", ".ckpt", ".joblib", ".msgpack", ".pickle", ".pkl", ".sav", ".weights"),
        *(".npy", ".npz", ".h5", ".hdf5", ".parquet"),
        *(".pt", ".pt2", ".pth", ".safetensors", ".gguf", ".params"),
        *(".onnx", ".ort", ".pb", ".tflite", ".keras", ".plan", ".engine", ".pmml"),
        *(".bst", ".cbm", ".lgb", ".model", ".skops", ".ubj", ".xgb"),
    }
)

MAX_FILES_BELOW = 10_000


@dataclass(frozen=True, slots=True)
class Contents:
    """The top level of a model directory, which is all that frameworks are told apart by.

    ``files`` and ``directories`` are names, sorted. Looking into a few small files is allowed.
    """

    path: Path
    files: tuple[str, ...]
    directories: tuple[str, ...] = ()

    def start_of(self, name: str, count: int = 4096) -> bytes:
        """The first bytes of a file; none if it cannot be read, as the load will tell."""
        try:
            with (self.path / name).open("rb") as file:
                return file.read(count)
        except OSError:
            return b""

    def only(self, name: str) -> Contents:
        """The same directory as if it held nothing but ``name``."""
        if name.strip("/") in self.directories or (self.path / name).is_dir():
            return Contents(self.path, (), (name.strip("/"),))
        return Contents(self.path, (name,))


def _extension(name: str) -> str:
    """Lower case, with the dot. Not pathlib's, which takes seconds for 100,000 names."""
    return name[name.rfind(".") :].lower() if "." in name else ""


def holds_weights(name: str) -> bool:
    """Whether a file of this name counts as weights."""
    return _extension(name) in WEIGHT_EXTENSIONS


def candidates(names: Iterable[str], extensions: Sequence[str]) -> list[str]:
    """The names with one of the extensions; earlier extensions first, then by name.

    Hidden files do not count: archives made on a Mac hold a ``._model.pt`` beside ``model.pt``.
    """
    found = [name for name in names if name[0] != "." and _extension(name) in extensions]
    return sorted(found, key=lambda name: (extensions.index(_extension(name)), name))


def pick(names: Iterable[str], extensions: Sequence[str]) -> str | None:
    """The one file that is the model: named ``model.*``, or the only candidate. Else None."""
    found = candidates(names, extensions)
    named = [name for name in found if name.rpartition(".")[0].lower() == "model"]
    if named:
        return named[0]
    return found[0] if len(found) == 1 else None


def bytes_below(folder: Path) -> int:
    """The size of all files in a directory and those in it, links not followed; 0 without one.

    After MAX_FILES_BELOW files the rest is left out: that is no model's directory.
    """
    total = count = 0
    for place, _, names in os.walk(folder):
        for name in names:
            count += 1
            if count > MAX_FILES_BELOW:
                return total
            with suppress(OSError):  # gone meanwhile, as the load will tell
                total += (Path(place) / name).lstat().st_size
    return total
