"""Loading joblib files and pickles, and saying which versions do not go together."""

from __future__ import annotations

import importlib.metadata
import logging
import pickle
import re
import warnings
import zlib
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from handlers.errors import ModelLoadError
from handlers.optional_packages import usable

log = logging.getLogger("modelyard.handlers")

PICKLE_START = b"\x80"  # protocol 2 and later; anything else is compressed, or older

SEARCHED_BYTES = 64 << 20
# Every estimator of scikit-learn is pickled with the version that it was made by.
_SKLEARN_VERSION = re.compile(rb"_sklearn_version.{1,10}?(\d+\.\d+[\w.]*)", re.DOTALL)


def load_pickle(path: Path) -> Any:
    """The object in a joblib file or pickle; large arrays are mapped where they can be.

    What unpickling raises gets a note if the file was made by another version of scikit-learn.
    """
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("default")
        try:
            model = _load(path)
        except (EOFError, pickle.UnpicklingError, zlib.error) as error:
            raise ModelLoadError(_damage(path, error)) from error
        except Exception as error:
            if isinstance(error, KeyError) and isinstance(error.args[0], int):  # not an opcode
                raise ModelLoadError(_damage(path, error)) from error
            note = _versions(path)
            if note:
                error.add_note(note)
            raise
    for text in dict.fromkeys(str(warning.message) for warning in caught):
        log.warning("while loading %s: %s", path.name, text)
    return model


def _damage(path: Path, error: Exception) -> str:
    if not path.stat().st_size:
        return f"{path.name} is empty."
    reason = "" if isinstance(error, KeyError) or not str(error) else f" ({error})"
    return f"{path.name} is damaged or incomplete, or no pickle{reason}."


def _load(path: Path) -> Any:
    with path.open("rb") as file:
        mappable = file.read(1) == PICKLE_START
    if not usable("joblib"):
        with path.open("rb") as file:
            return pickle.load(file)
    import joblib

    return joblib.load(path, mmap_mode="r" if mappable else None)


def _versions(path: Path) -> str | None:
    """Which version of scikit-learn saved a file, and which there is, if they differ."""
    with path.open("rb") as file:
        saved = _SKLEARN_VERSION.search(file.read(SEARCHED_BYTES))
    if saved is None or find_spec("sklearn") is None:
        return None
    there, here = saved[1].decode(), importlib.metadata.version("scikit-learn")
    if there == here:
        return None
    return (
        f"it was saved with scikit-learn {there}, and this container has {here}; use an image with "
        f"{there}, or save the model again with {here}"
    )
