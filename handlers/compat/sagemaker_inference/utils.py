"""Helpers for files and headers."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path


def read_file(path: str, mode: str = "r") -> str | bytes:
    """The contents of a file."""
    return Path(path).read_bytes() if "b" in mode else Path(path).read_text()


def write_file(path: str, data: str | bytes, mode: str = "w") -> None:
    """Write a file; with ``a`` in the mode, at its end."""
    with Path(path).open(mode) as file:
        file.write(data)


def retrieve_content_type_header(request_property: Mapping[str, str]) -> str | None:
    """The content type among request headers, however it is spelled."""
    for name, value in request_property.items():
        if name.lower().replace("-", "") == "contenttype":
            return value
    return None


def parse_accept(accept: str) -> list[str]:
    """The content types that an Accept header lists."""
    return accept.replace(" ", "").split(",")


def remove_crlf(illegal_string: str) -> str:
    """The text on one line."""
    return illegal_string.replace("\r", " ").replace("\n", " ")
