"""From environment variables and options to settings: the only reader of os.environ."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import Field, fields
from difflib import get_close_matches
from typing import Any

from model_server.settings import MIB, Settings, SettingsError

_TRUE = frozenset({"1", "true", "yes", "on"})
_FALSE = frozenset({"0", "false", "no", "off", ""})

# What SageMaker's toolkits count otherwise than we do.
_UNITS = {"SAGEMAKER_MAX_PAYLOAD_IN_MB": MIB}


def current_environment() -> dict[str, str]:
    """A copy of this process's environment."""
    return dict(os.environ)


def settings_from(environment: Mapping[str, str], options: Mapping[str, str]) -> Settings:
    """Settings from command-line options, then the environment, then defaults.

    Raises SettingsError that names the variable or option and says what it must be.
    """
    chosen: dict[str, Any] = {}
    for field in fields(Settings):
        found = _find(field, environment, options)
        if found is not None:
            source, text = found
            chosen[field.name] = _parse(field, source, text)
    return Settings(**chosen)


def source_of(name: str, environment: Mapping[str, str]) -> str | None:
    """The variable that a setting is read from, or None while it has its default."""
    field = next(field for field in fields(Settings) if field.name == name)
    return next((variable for variable in variables(field) if variable in environment), None)


def option_name(field: Field[Any]) -> str:
    """The command-line option of a setting."""
    return "--" + field.name.replace("_", "-")


def variables(field: Field[Any]) -> tuple[str, ...]:
    """The environment variables of a setting; the first one that is set wins."""
    return (field.metadata["env"], *field.metadata["also"])


def _find(
    field: Field[Any], environment: Mapping[str, str], options: Mapping[str, str]
) -> tuple[str, str] | None:
    if field.name in options:
        return option_name(field), options[field.name]
    for variable in variables(field):
        text = environment.get(variable, "")
        if text or (variable in environment and field.metadata["kind"] in (str, tuple)):
            return variable, text  # an empty number or switch is as good as none
    return None


def unknown_variables(environment: Mapping[str, str]) -> dict[str, str | None]:
    """Variables named like settings that are none, each with the one that may have been meant."""
    known = [variable for field in fields(Settings) for variable in variables(field)]
    unknown = [n for n in environment if n.startswith("MODELYARD_") and n not in known]
    return {name: next(iter(get_close_matches(name, known, 1)), None) for name in unknown}


def _parse(field: Field[Any], source: str, text: str) -> Any:
    kind = field.metadata["kind"]
    try:
        value = _convert(kind, text.strip())
    except ValueError:
        wanted = {bool: "true or false", int: "a whole number", float: "a number"}[kind]
        raise SettingsError(f"{source}={text!r}: it must be {wanted}") from None
    return value * _UNITS[source] if source in _UNITS else value


def _convert(kind: type, text: str) -> Any:
    """Text as a value of this type."""
    if kind is bool:
        lowered = text.lower()
        if lowered not in _TRUE | _FALSE:
            raise ValueError(text)
        return lowered in _TRUE
    if kind is int:
        return int(text)
    if kind is float:
        return float(text)
    if kind is tuple:
        return tuple(part for part in text.split(":") if part)
    return text
