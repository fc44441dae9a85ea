"""Which modules a model's code imports, found by reading it: the code itself is never run here."""

from __future__ import annotations

import ast
import warnings
from pathlib import Path

# Beyond these the answer may be incomplete, which costs a slower load and nothing else.
MAX_FILES = 50
MAX_FILE_BYTES = 1 << 20


def imported_modules(script: Path) -> set[str]:
    """Top-level names that a script imports, itself or through modules lying beside it."""
    found: set[str] = set()
    waiting = [script]
    seen = {script}
    while waiting and len(seen) <= MAX_FILES:
        names = _imports_of(waiting.pop())
        found |= names
        beside = {script.parent / f"{name}.py" for name in names} - seen
        beside = {path for path in beside if path.is_file()}
        seen |= beside
        waiting.extend(beside)
    return found


def _imports_of(path: Path) -> set[str]:
    """The top-level names one file imports; none if it cannot be read, as the load will tell."""
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            return set()
        with warnings.catch_warnings(action="ignore"):  # of the user's code: told when it runs
            tree = ast.parse(path.read_bytes())
    except (OSError, SyntaxError, ValueError, RecursionError, MemoryError):
        return set()
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module.partition(".")[0])
        elif isinstance(node, ast.ImportFrom):  # from . import sibling
            names |= {alias.name for alias in node.names}
    return names
