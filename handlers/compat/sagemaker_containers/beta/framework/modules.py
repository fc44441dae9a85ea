"""The user's script as a module."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from types import ModuleType

DEFAULT_MODULE_NAME = "default_user_module_name"


def import_module(
    uri: str, name: str = DEFAULT_MODULE_NAME, cache: bool | None = None
) -> ModuleType:
    """A module of a directory. Raises ``ImportError``; nothing is fetched or installed here."""
    if not Path(uri).is_dir():
        raise ImportError(
            f"{uri} is no directory here. Name what is to be installed in code/requirements.txt."
        )
    if uri not in sys.path:
        sys.path.insert(0, uri)
    importlib.invalidate_caches()
    return importlib.import_module(name.removesuffix(".py"))
