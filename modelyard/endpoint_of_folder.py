"""An endpoint of a folder of archives, made through the API as anybody would make it."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from hashlib import blake2b
from pathlib import Path
from typing import Any

from botocore.exceptions import ClientError

from archives.formats import SUFFIXES

_MAX_NAME = 63
_LOOK_SECONDS = 0.1

# Of a fleet that runs containers; others take any name.
IMAGE = "modelyard"


class EndpointFailed(Exception):
    """Raised with why it cannot be in service."""


def name_of(folder: Path) -> str:
    """The folder's name with what an endpoint's name may not have replaced."""
    letters = re.sub(r"[^a-zA-Z0-9]+", "-", folder.resolve().name)
    return letters[:_MAX_NAME].strip("-") or "models"


def archives_in(folder: Path) -> list[str]:
    """The TargetModel of each archive, sorted."""
    files = (path for path in folder.rglob("*") if path.name.endswith(SUFFIXES) and path.is_file())
    return sorted(str(path.relative_to(folder)) for path in files)
