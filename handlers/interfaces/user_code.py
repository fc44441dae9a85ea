"""Imports a model's own code the way its author expects it to be imported.

A script becomes the module of its own name, in ``sys.modules``, so that classes pickled as
``inference.MyModel`` are found and modules lying beside it can import it in turn.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType


def add_to_path(directories: Iterable[str]) -> None:
    """Put directories in front of ``sys.path``, the first one foremost."""
    wanted = list(dict.fromkeys(directories))
    sys.path[:] = wanted + [path for path in sys.path if path not in wanted]
    for path in wanted:  # its files may be younger than the last look at it
        sys.path_importer_cache.pop(path, None)


def import_file(path: Path, name: str | None = None) -> ModuleType:
    """Run a file as the module ``name`` (its stem), in place of any module of that name."""
    name = name or path.stem
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    before = sys.modules.get(name)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        sys.modules.pop(name, None)
        if before is not None:
            sys.modules[name] = before
        raise
    return sys.modules[name]  # what import itself returns: a module may replace itself


def lend_to_main(module: ModuleType) -> None:
    """Let pickles find in ``__main__``, which saved them, what the model's script defines too."""
    main = sys.modules["__main__"]
    for name, item in list(vars(module).items()):
        if getattr(item, "__module__", None) == module.__name__ and not hasattr(main, name):
            setattr(main, name, item)


def import_handler(name: str, script: str | None) -> ModuleType:
    """A handler's module: from its file, or by name when it lies in a package or is installed."""
    if script is None or "." in name:
        return importlib.import_module(name)
    return import_file(Path(script), name)


def classes_of(module: ModuleType) -> list[type]:
    """The classes that a module defines itself, not those it imports."""
    return [
        item
        for item in vars(module).values()
        if isinstance(item, type) and item.__module__ == module.__name__
    ]
