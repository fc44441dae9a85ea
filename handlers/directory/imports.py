"""What a model's code imports and defines, found by reading it: the code itself is never run."""

from __future__ import annotations

import ast
import warnings
from collections.abc import Iterator
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


def defined_names(script: Path) -> set[str] | None:
    """Names that a script binds at its top level; None if that cannot be told by reading it."""
    tree = _tree(script)
    if tree is None:
        return None
    names: set[str] = set()
    for node in _statements(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Import | ast.ImportFrom):
            names |= {alias.asname or alias.name for alias in node.names}
        else:
            names |= {n.id for n in ast.walk(node) if isinstance(n, ast.Name)}
    return None if "*" in names else names


def _statements(tree: ast.Module) -> Iterator[ast.stmt]:
    """The statements of a module, those within its ifs and trys too, but not within functions."""
    waiting: list[ast.stmt] = list(tree.body)
    while waiting:
        statement = waiting.pop()
        if isinstance(statement, ast.If | ast.Try | ast.With):
            waiting.extend(n for n in ast.iter_child_nodes(statement) if isinstance(n, ast.stmt))
            for handler in getattr(statement, "handlers", ()):
                waiting.extend(handler.body)
        else:
            yield statement


def _imports_of(path: Path) -> set[str]:
    """The top-level names one file imports; none if it cannot be read, as the load will tell."""
    tree = _tree(path)
    names: set[str] = set()
    for node in ast.walk(tree) if tree is not None else ():
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module.partition(".")[0])
        elif isinstance(node, ast.ImportFrom):  # from . import sibling
            names |= {alias.name for alias in node.names}
    return names


def _tree(path: Path) -> ast.Module | None:
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            return None
        with warnings.catch_warnings(action="ignore"):  # of the user's code: told when it runs
            return ast.parse(path.read_bytes())
    except (OSError, SyntaxError, ValueError, RecursionError, MemoryError):
        return None
