"""Who imports whom: the table below, and nobody else; no framework too early."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
# What each package may import of ours. The endpoint knows containers by HTTP only.
MAY_IMPORT: dict[str, set[str]] = {
    "modelyard": {"container", "endpoint", "model_server", "handlers", "archives"},
    "container": {"model_server", "handlers", "archives"},
    "model_server": {"handlers", "archives"},
    "endpoint": {"archives"},
    "handlers": set(),
    "archives": set(),
}
FRAMEWORKS = {"numpy", "torch", "sklearn", "joblib", "safetensors", "scipy", "pandas"} | {
    *("xgboost", "lightgbm", "catboost", "onnxruntime", "onnx", "skops"),
    *("transformers", "tokenizers", "tensorflow", "keras", "mxnet"),
}
SOURCES = sorted(path for package in MAY_IMPORT for path in (ROOT / package).rglob("*.py"))


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


def modules(node: ast.AST) -> Iterator[str]:
    """The modules that an import statement names."""
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        assert node.level == 0, "imports here are absolute"
        yield node.module or ""


def imported(tree: ast.AST) -> set[str]:
    """The top-level packages that are imported anywhere in the tree."""
    return {name.partition(".")[0] for node in ast.walk(tree) for name in modules(node)}


def imported_late(tree: ast.AST) -> set[str]:
    """What is imported inside of functions."""
    functions = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, functions):
            found |= imported(node)
    return found


def imported_at_once(tree: ast.AST) -> set[str]:
    """What is imported when the module is."""
    found: set[str] = set()
    pending = list(ast.iter_child_nodes(tree))
    while pending:
        node = pending.pop()
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        if isinstance(node, ast.If) and getattr(node.test, "id", "") == "TYPE_CHECKING":
            continue
        found |= {name.partition(".")[0] for name in modules(node)}
        pending += ast.iter_child_nodes(node)
    return found


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_only_what_the_table_says_is_imported_of_ours(path: Path) -> None:
    package = path.relative_to(ROOT).parts[0]
    ours = {*MAY_IMPORT, "tests", "examples", "benchmarks", "documentation"}
    assert imported(tree_of(path)) & ours <= {package, *MAY_IMPORT[package]}


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_no_framework_is_imported_with_a_module(path: Path) -> None:
    assert not imported_at_once(tree_of(path)) & FRAMEWORKS


@pytest.mark.parametrize(
    "path",
    [path for path in SOURCES if "handlers" in path.parts or path.name == "worker.py"],
    ids=name_of,
)
def test_nothing_of_ours_is_imported_late_in_a_worker(path: Path) -> None:
    """There our packages are hidden by then: such an import would find the model's own code."""
    assert not imported_late(tree_of(path)) & set(MAY_IMPORT)


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_only_one_file_reads_the_environment(path: Path) -> None:
    """``handlers`` may write to it, for the libraries that read it; nobody else touches it."""
    if name_of(path) == "container/environment.py":
        return
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            assert node.func.attr != "getenv", node.lineno
        if isinstance(node, ast.Attribute) and node.attr in ("environ", "environb"):
            assert "handlers" in path.parts, node.lineno


@pytest.mark.parametrize(
    "module",
    [
        "modelyard.cli",
        "container.entrypoint",
        "container.gunicorn_worker",
        "model_server.gateway.gateway",
    ]
    + ["model_server.processes.zygote", "handlers.service", "handlers.frameworks"],
)
def test_importing_it_loads_no_framework(module: str) -> None:
    code = f"import sys, {module}; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {name.partition(".")[0] for name in done.stdout.split()} & FRAMEWORKS


@pytest.mark.parametrize("module", ["handlers.service", "handlers.frameworks"])
def test_handlers_can_be_imported_without_the_server(module: str) -> None:
    code = f"import sys, {module}; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    ours = {name.partition(".")[0] for name in done.stdout.split()}
    assert not ours & {"model_server", "container", "archives", "uvloop", "gunicorn"}
