"""A page of a container's list of models, in each of the shapes that containers in use have."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

# A page's models (ids and directories) and the token of the next page, if there is one.
Page = tuple[dict[str, str], str | None]


class BadList(Exception):
    """Raised for what is no page of a list of models; the text says why."""


def page_of(body: bytes) -> Page:
    """Read a page: the contract's, or TensorFlow's map by id, which has no directories."""
    try:
        answer = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        start = body[:60].decode("utf-8", "replace")
        raise BadList(f"it must be JSON, but starts with {start!r}: {error}") from None
    if not isinstance(answer, dict):
        raise BadList(f"it must be a JSON object, not {_shown(answer)}")
    entries = answer.get("models")
    if isinstance(entries, list):
        return dict(_models(entries)), _token(answer)
    for name, state in answer.items():
        if not isinstance(state, dict):
            raise BadList(f'it has no list "models", and {name!r} is {_shown(state)}')
    return dict.fromkeys(answer, ""), None


def _models(entries: list[Any]) -> Iterator[tuple[str, str]]:
    for entry in entries:
        if entry == {}:  # Triton: a model that is not ready
            continue
        name = entry.get("modelName") if isinstance(entry, dict) else None
        if not isinstance(name, str) or not name:
            raise BadList(f'an entry of "models" has no "modelName": {_shown(entry)}')
        url = entry.get("modelUrl")
        yield name, url if isinstance(url, str) else ""


def _token(answer: Mapping[str, Any]) -> str | None:
    token = answer.get("nextPageToken")
    if token is None or token == "":
        return None
    if isinstance(token, bool) or not isinstance(token, str | int):
        raise BadList(f'"nextPageToken" must be a string, not {_shown(token)}')
    return str(token)


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
