"""The tables of settings, from the fields of the classes that hold them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import Field, fields
from typing import Any

from container.environment import option_name, variables
from documentation.tables import code, table
from endpoint.settings import EndpointSettings
from model_server.settings import Settings

# The first setting of each section, and its heading; the order is that of the fields.
_OF_CONTAINER = {
    "host": "Server",
    "min_workers": "Defaults of models",
    "queue_size": "Requests and limits",
    "memory_limit_bytes": "Memory, frameworks, logs",
    "program": "Code of models",
    "environments_dir": "Environments and archives",
}
_OF_ENDPOINT = {
    "host": "Where it listens and what it is called",
    "fleet": "Instances",
    "object_changes": "Models",
    "spill_requests": "Routing",
    "max_body_bytes": "Limits and times of the platform",
}


def of_container() -> str:
    """All settings of the container; of its variables those that do not follow from the name."""
    return _sections(Settings, _OF_CONTAINER, "also read from", _other_variables)


def of_endpoint() -> str:
    """All settings of the endpoint."""
    return _sections(EndpointSettings, _OF_ENDPOINT, "variable", variables)


def _sections(kind: type[Any], headings: Mapping[str, str], column: str, names: Any) -> str:
    head = ("setting", "default", column, "meaning")
    parts = []
    for heading, members in _by_heading(kind, headings):
        rows = [
            (
                code(field.name),
                _default(field.default),
                "<br>".join(map(code, names(field))),
                field.metadata["text"],
            )
            for field in members
        ]
        parts.append(f"## {heading}\n\n{table(head, rows)}")
    return "\n\n".join(parts)


def _by_heading(
    kind: type[Any], headings: Mapping[str, str]
) -> Iterator[tuple[str, list[Field[Any]]]]:
    heading, members = "", list[Field[Any]]()
    for field in fields(kind):
        if field.name in headings:
            if members:
                yield heading, members
            heading, members = headings[field.name], []
        members.append(field)
    yield heading, members


def _other_variables(field: Field[Any]) -> list[str]:
    own = "MODELYARD" + option_name(field)[1:].replace("-", "_").upper()
    return [name for name in variables(field) if name != own]


def _default(value: Any) -> str:
    if isinstance(value, bool):
        return code(str(value).lower())
    if isinstance(value, float):
        return code(f"{value:g}")
    return code(":".join(value) if isinstance(value, tuple) else value)
