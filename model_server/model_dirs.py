"""From the ``url`` of a load to a directory that may be loaded from."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from archives.quoting import shown
from model_server.errors import BadRequest, ModelNotFound


def resolve(url: str, roots: Sequence[str]) -> Path:
    """The directory that ``url`` names, links followed.

    Raises BadRequest or ModelNotFound, saying what to do, when it is not a directory below one of
    ``roots``.
    """
    if "\0" in url or not Path(url).is_absolute():
        raise BadRequest(f"url must be the absolute path of a directory, not {shown(url)}")
    try:
        return _resolve(url, roots)
    except OSError as error:  # a name too long, no permission on the way
        raise BadRequest(
            f"url {shown(url)} cannot be read ({error.strerror}); models are "
            f"loaded from {', '.join(roots)}, which MODELYARD_MODEL_ROOTS sets"
        ) from error


def _resolve(url: str, roots: Sequence[str]) -> Path:
    real = os.path.realpath(url)
    if not any(_is_below(real, os.path.realpath(root)) for root in roots):
        raise BadRequest(
            f"url {shown(url)} lies outside of the directories that models may be loaded from "
            f"({', '.join(roots)}); MODELYARD_MODEL_ROOTS sets them"
        )
    path = Path(real)
    if path.is_dir():
        return path
    if path.exists():
        raise BadRequest(f"url {shown(url)} is a file; it must be the extracted directory")
    raise ModelNotFound(f"url {shown(url)} does not exist")


def _is_below(path: str, root: str) -> bool:
    return os.path.commonpath((path, root)) == root
