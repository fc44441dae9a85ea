"""How one model wants to be served: its own ``modelyard.toml``, or another server's settings file.

Read by the controller for every load, before anything of the model runs, so that a typo fails the
load with a sentence instead of being served with the defaults.
"""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from handlers.directory.setting_values import KEYS, problem_of, read_text, refused, shown
from handlers.directory.torchserve_config import torchserve_config, torchserve_settings
from handlers.directory.triton import CONFIG, triton_settings
from handlers.types import ModelSettings

FILE = "modelyard.toml"
ENVIRONMENT = "environment"
_WORKERS = frozenset({"min_workers", "max_workers"})

_READ_AT_START = re.compile(r"LD_\w+|PYTHON[A-Z]+|MALLOC_\w+|GLIBC_TUNABLES")
_INSTEAD = {
    "OMP_NUM_THREADS": "threads",
    "MKL_NUM_THREADS": "threads",
    "OPENBLAS_NUM_THREADS": "threads",
    "CUDA_VISIBLE_DEVICES": "device",
}


@dataclass(frozen=True, slots=True)
class Choice:
    """What a model's files say of one setting, and which file it was."""

    value: Any
    file: str


def read_settings(
    model_dir: Path, manifest: dict[str, Any] | None, defaults: ModelSettings
) -> ModelSettings:
    """The settings of one model: what its files say, else ``defaults``.

    Raises ``ModelLoadError`` with status 400 that names the file, the key, and what is right.
    """
    chosen = {name: choice.value for name, choice in chosen_settings(model_dir, manifest).items()}
    least = chosen.get("min_workers", defaults.min_workers)
    most = chosen.get("max_workers", max(defaults.max_workers, least))
    if "min_workers" not in chosen:
        chosen["min_workers"] = min(least, most)
    chosen["max_workers"] = most
    if ENVIRONMENT in chosen:
        environment = {**dict(defaults.environment), **chosen[ENVIRONMENT]}
        chosen[ENVIRONMENT] = tuple(sorted(environment.items()))
    return replace(defaults, **chosen)


def chosen_settings(model_dir: Path, manifest: dict[str, Any] | None) -> dict[str, Choice]:
    """What the model's own files say, by setting. Raises as ``read_settings`` does."""
    own = _of_toml(model_dir)
    chosen = {**_of_torchserve(model_dir, manifest), **_of_triton(model_dir, own), **own}
    least, most = chosen.get("min_workers"), chosen.get("max_workers")
    if least is not None and most is not None and least.value > most.value:
        raise refused(
            f"{most.file}: max_workers is {most.value}, less than min_workers ({least.value}). "
            "Raise the one or lower the other"
        )
    return chosen


def _of_toml(model_dir: Path) -> dict[str, Choice]:
    """What ``modelyard.toml`` says."""
    found = [name for name in (FILE, f"code/{FILE}") if (model_dir / name).is_file()]
    if not found:
        return {}
    if len(found) > 1:
        raise refused(f"The model has both {found[0]} and {found[1]}. Remove one of them")
    (file,) = found
    try:
        text = read_text(model_dir / file, file) + "\n"  # else errors at its end have no position
        entries = tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        raise refused(f"{file} is not valid TOML: {error}") from error
    _check_keys(entries, file)
    for name in KEYS:
        problem = problem_of(name, entries[name]) if name in entries else None
        if problem is not None:
            raise refused(f"{file}: {problem}")
    if ENVIRONMENT in entries:
        entries[ENVIRONMENT] = _environment(entries[ENVIRONMENT], file)
    return {name: Choice(value, file) for name, value in entries.items()}


def _check_keys(entries: Mapping[str, Any], file: str) -> None:
    known = (*KEYS, ENVIRONMENT)
    unknown = [name for name in entries if name not in known]
    if not unknown:
        return
    hints = [_with_hint(name, known) for name in unknown]
    noun = "key" if len(unknown) == 1 else "keys"
    raise refused(f"{file} has the unknown {noun} {', '.join(hints)}. Known are {', '.join(known)}")


def _with_hint(name: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(name.lower(), known, 1)
    near = near or [key for key in known if name and name.lower() in key][:1]
    return f"{shown(name)} (did you mean {near[0]}?)" if near else shown(name)


def _environment(table: object, file: str) -> dict[str, str]:
    """The variables of ``[environment]`` as text."""
    if not isinstance(table, dict):
        raise refused(f'{file}: environment must be a table, [environment], of NAME = "value"')
    return {name: _variable(name, value, file) for name, value in table.items()}


def _variable(name: str, value: object, file: str) -> str:
    where = f"{file}: {shown(name)} in [environment]"
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
        raise refused(f"{where} is no name of a variable; use letters, digits and _")
    if name in _INSTEAD:
        raise refused(f"{where} is set by the server; use the key {_INSTEAD[name]} instead")
    if name.startswith("MODELYARD_"):
        raise refused(f"{where} is for the whole server; a model's own settings are keys here")
    if _READ_AT_START.fullmatch(name):
        raise refused(
            f"{where} is read only when a process starts, which the model's has by then. Set it "
            "for the container"
        )
    if isinstance(value, bool):
        return "true" if value else "false"
    if not isinstance(value, str | int | float) or "\0" in str(value):
        raise refused(f"{where} is {shown(value)}; it must be a string or a number")
    return str(value)


def _of_torchserve(model_dir: Path, manifest: dict[str, Any] | None) -> dict[str, Choice]:
    config, file = torchserve_config(model_dir, manifest)
    return {name: Choice(value, file) for name, value in torchserve_settings(config, file).items()}


def _of_triton(model_dir: Path, own: Mapping[str, Choice]) -> dict[str, Choice]:
    """What ``config.pbtxt`` says. Its one number of instances gives way to either of ``own``'s."""
    found = {name: Choice(value, CONFIG) for name, value in triton_settings(model_dir).items()}
    if own.keys() & _WORKERS:
        found = {name: choice for name, choice in found.items() if name not in _WORKERS}
    return found
