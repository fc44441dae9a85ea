"""What a model's directory holds, found without running anything of it."""

from __future__ import annotations

import ast
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from container.environment import source_of
from handlers.directory.imports import defined_names
from handlers.directory.manifest import read_manifest
from handlers.directory.model_settings import ENVIRONMENT, chosen_settings
from handlers.directory.setting_values import KEYS
from handlers.inspection import inspect_model
from handlers.interfaces.sagemaker_functions import ARGUMENTS
from handlers.types import Interface, ModelPlan
from model_server.settings import Settings

DEFAULT = "default"


@dataclass(frozen=True, slots=True)
class Found:
    """A plan in words. ``settings`` has, by name, the value in force and where it comes from."""

    framework: str
    interface: str
    artifact: str | None
    script: str | None
    functions: list[str]
    requirements: list[str]
    settings: dict[str, tuple[Any, str]]
    files: int
    bytes: int


def look_at(directory: Path, settings: Settings, environment: Mapping[str, str]) -> Found:
    """What lies in a directory and how it would be served. Raises ``ModelLoadError``."""
    plan = inspect_model(directory, settings.handler_options)
    sizes = [path.stat().st_size for path in directory.rglob("*") if path.is_file()]
    return Found(
        framework=plan.framework,
        interface=plan.interface.value,
        artifact=plan.artifact,
        script=_shown_script(plan),
        functions=_functions(plan),
        requirements=_requirements(plan),
        settings=_settings(plan, environment),
        files=len(sizes),
        bytes=sum(sizes),
    )


def _shown_script(plan: ModelPlan) -> str | None:
    """The script's path in the directory; a handler's name where no file of the model is it."""
    if plan.script is None:
        return plan.handler
    script = Path(plan.script)
    inside = script.is_relative_to(plan.model_dir)
    return str(script.relative_to(plan.model_dir)) if inside else plan.script


def _requirements(plan: ModelPlan) -> list[str]:
    """What the model's own environment is made for; empty when it needs none."""
    if plan.requirements is None:
        return []
    file = plan.requirements.file
    names = [str(Path(file).relative_to(plan.model_dir))] if file is not None else []
    return [*plan.requirements.pins, *names]


def _settings(plan: ModelPlan, environment: Mapping[str, str]) -> dict[str, tuple[Any, str]]:
    directory = Path(plan.model_dir)
    chosen = chosen_settings(directory, read_manifest(directory))
    found: dict[str, tuple[Any, str]] = {}
    for name in KEYS:
        file = chosen[name].file if name in chosen else None
        source = file or source_of(name, environment) or DEFAULT
        found[name] = (getattr(plan.settings, name), source)
    if plan.settings.environment:
        found[ENVIRONMENT] = (dict(plan.settings.environment), chosen[ENVIRONMENT].file)
    return found


def _functions(plan: ModelPlan) -> list[str]:
    """The functions of the script that the server calls; of a handler's classes, their methods."""
    if plan.script is None or plan.interface is Interface.DEFAULT:
        return []
    names = defined_names(Path(plan.script)) or set()
    if plan.interface is Interface.SAGEMAKER:
        return [name for name in ARGUMENTS if name in names]
    function = (plan.handler or "").partition(":")[2]
    return [function] if function in names else _classes(Path(plan.script))


def _classes(script: Path) -> list[str]:
    """The classes of a script with their methods; none if it cannot be read."""
    try:
        with warnings.catch_warnings(action="ignore"):
            tree = ast.parse(script.read_bytes())
    except (OSError, SyntaxError, ValueError, RecursionError, MemoryError):
        return []  # the load will tell better
    classes = [node for node in tree.body if isinstance(node, ast.ClassDef)]
    return [f"{node.name}({', '.join(_methods(node))})" for node in classes]


def _methods(node: ast.ClassDef) -> Iterator[str]:
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
    return (item.name for item in node.body if isinstance(item, kinds) and item.name[0] != "_")
