"""From environment variables and options to settings: the only reader of os.environ.

Settings are a dataclass whose fields carry ``env``, ``also``, ``text`` and ``kind`` as metadata:
``model_server.settings.Settings``, and those of the endpoint, which this package does not know.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Mapping
from dataclasses import Field, fields
from difflib import get_close_matches
from typing import Any, TypeVar

from model_server.settings import MIB, Settings, SettingsError

_TRUE = frozenset({"1", "true", "yes", "on"})
_FALSE = frozenset({"0", "false", "no", "off", ""})

# What SageMaker's toolkits count otherwise than we do.
_UNITS = {"SAGEMAKER_MAX_PAYLOAD_IN_MB": MIB}

_PREFIX = "MODELYARD_"
# The endpoint's; its instances inherit them.
_PREFIX_OF_ENDPOINT = "MODELYARD_UP_"

_Settings = TypeVar("_Settings")


def current_environment() -> dict[str, str]:
    """A copy of this process's environment."""
    return dict(os.environ)


def settings_from(
    kind: type[_Settings], environment: Mapping[str, str], options: Mapping[str, str]
) -> _Settings:
    """Settings from command-line options, then the environment, then defaults.

    Raises SettingsError that names the variable or option and says what it must be; and what the
    class itself raises.
    """
    chosen: dict[str, Any] = {}
    for field in fields(kind):  # type: ignore[arg-type]  # mypy has no name for dataclasses
        found = _find(field, environment, options)
        if found is not None:
            source, text = found
            chosen[field.name] = _parse(field, source, text)
    return kind(**chosen)


def add_options(parser: argparse._ActionsContainer, kind: type[Any]) -> None:
    """An option for each setting; those that are given are attributes of the setting's name."""
    for field in fields(kind):
        text = field.metadata["text"].replace("%", "%%")
        names = ", ".join(variables(field))
        parser.add_argument(
            option_name(field),
            dest=field.name,
            metavar="VALUE",
            default=argparse.SUPPRESS,
            help=f"{text} (default {field.default!r}; {names})",
        )


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


def unknown_variables(
    environment: Mapping[str, str], *, endpoint: type[Any] | None = None
) -> dict[str, str | None]:
    """Variables named like settings that are none, each with the one that may have been meant.

    Those of the endpoint count only where ``endpoint``, the class of its settings, is given.
    """
    kinds = (Settings,) if endpoint is None else (Settings, endpoint)
    known = [name for kind in kinds for field in fields(kind) for name in variables(field)]
    named = [name for name in environment if name.startswith(_PREFIX) and name not in known]
    if endpoint is None:
        named = [name for name in named if not name.startswith(_PREFIX_OF_ENDPOINT)]
    return {name: next(iter(get_close_matches(name, known, 1)), None) for name in named}


def _parse(field: Field[Any], source: str, text: str) -> Any:
    kind = field.metadata["kind"]
    try:
        value = _convert(kind, text.strip(), field.metadata.get("separator", ":"))
    except ValueError:
        wanted = {bool: "true or false", int: "a whole number", float: "a number"}[kind]
        raise SettingsError(f"{source}={text!r}: it must be {wanted}") from None
    return value * _UNITS[source] if source in _UNITS else value


def _convert(kind: type, text: str, separator: str | None) -> Any:
    """Text as a value of this type; the separator is that of ``str.split``."""
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
        return tuple(part for part in text.split(separator) if part)
    return text
