"""Packages that are used where there are some: one that cannot be imported counts as none.

Being installed is not enough. Where a model's requirements bring another numpy, a package of the
server that was built for its own may raise anything when it is imported.
"""

from __future__ import annotations

import importlib
import logging
import sys
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from importlib.util import find_spec
from types import ModuleType

log = logging.getLogger("modelyard.handlers")

# What libraries for models use if it is there, prepared for nothing but an ImportError.
OPTIONAL = frozenset({"pandas", "pyarrow", "matplotlib"})

_broken: set[str] = set()


def usable(name: str) -> bool:
    """Whether a package is there and can be imported, which this does. Says so when it cannot."""
    if sys.modules.get(name) is not None:
        return True
    if name in _broken or find_spec(name.partition(".")[0]) is None:
        return False
    try:
        importlib.import_module(name)
    except Exception as error:
        _broken.add(name)
        log.warning("going on without %s: %s: %s", name, type(error).__name__, error)
        return False
    return True


def raise_import_errors() -> None:
    """From now on, whatever goes wrong in the import of an ``OPTIONAL`` package, is ImportError."""
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())


class _Finder(MetaPathFinder):
    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname not in OPTIONAL:
            return None
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is not None and spec.loader is not None:
            spec.loader = _Loader(spec.loader)
        return spec


class _Loader(Loader):
    def __init__(self, loader: Loader) -> None:
        self._loader = loader

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        module.__loader__ = self._loader
        if module.__spec__ is not None:
            module.__spec__.loader = self._loader
        try:
            self._loader.exec_module(module)
        except ImportError:
            raise
        except Exception as error:
            name = module.__name__
            raise ImportError(
                f"the {name} that is installed cannot be imported, as it does not go together "
                f"with other packages: {type(error).__name__}: {error}",
                name=name,
            ) from error
