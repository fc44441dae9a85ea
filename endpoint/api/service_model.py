"""Holds requests to botocore's own model of a service.

What is in the model is checked here, and what follows from the state of things is not.
"""

from __future__ import annotations

import asyncio
import math
import re
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

from botocore.loaders import Loader
from botocore.model import (
    ListShape,
    MapShape,
    OperationModel,
    Shape,
    StringShape,
    StructureShape,
)
from botocore.model import ServiceModel as Model

from endpoint.api import constraints
from endpoint.errors import ApiError, SerializationException, ValidationException

# Models may also lie in a directory.
_ALSO = {"Url": r"(https|s3)://([^/]+)/?(.*)|file:///.*"}

_INTEGERS = ("integer", "long")
_SHOWN = dict.fromkeys(_INTEGERS, "an Integer") | dict.fromkeys(("float", "double"), "a Float")

# Numbers of more are nothing that anybody means, and do not go through JSON unharmed.
_MOST = 2**53

# The words of the platform for what JSON holds.
_KINDS = {bool: "BOOLEAN_VALUE", int: "NUMBER_VALUE", float: "NUMBER_VALUE", str: "STRING_VALUE"}


class ServiceModel:
    """The operations that a service has. Takes about 0.2 s to make."""

    def __init__(self, service: str = "sagemaker") -> None:
        self._model = Model(Loader().load_service_model(service, "service-2"), service)
        self.operations = frozenset(self._model.operation_names)

    def operation(self, name: str) -> OperationModel:
        """One of ``operations``, with the shapes of its requests and answers."""
        return self._model.operation_model(name)

    def checked(
        self, operation: str, request: Any, refusal: type[ApiError] = ValidationException
    ) -> dict[str, Any]:
        """The members of a request that the service knows, nulls left out.

        Raises SerializationException for a value of another type, ``refusal`` with all that
        breaks a limit.
        """
        check = _Check()
        known: dict[str, Any] = check.value(self.operation(operation).input_shape, request, "")
        if check.violations:
            raise refusal(constraints.message(check.violations))
        return known


class ModelToCome:
    """A service's model, read beside everything else. Between ``start`` and ``stop``."""

    def __init__(self, service: str) -> None:
        self._service = service
        self._task: asyncio.Task[ServiceModel] | None = None

    def start(self) -> None:
        """Begin to read it, so that only the first request may wait; ``get`` does it if need be."""
        if self._task is None:
            self._task = asyncio.create_task(asyncio.to_thread(ServiceModel, self._service))

    async def get(self) -> ServiceModel:
        """The model, as soon as it is there."""
        self.start()
        assert self._task is not None
        # Shielded: a client that leaves must not end it for the others.
        return await asyncio.shield(self._task)

    async def stop(self) -> None:
        """Let no task outlive the server."""
        if self._task is not None:
            await asyncio.gather(self._task, return_exceptions=True)


class _Check:
    """One request; ``violations`` grow on the way through it."""

    def __init__(self) -> None:
        self.violations: list[str] = []

    def value(self, shape: Shape, value: Any, path: str) -> Any:
        """The value without what the shape does not know."""
        match shape:
            case StructureShape():
                return self._structure(shape, value, path)
            case ListShape():
                return self._list(shape, value, path)
            case MapShape():
                return self._map(shape, value, path)
            case StringShape():
                self._string(shape, _typed(value, str, "a String", path), path)
            case _:
                self._scalar(shape, value, path)
        return value

    def _structure(self, shape: StructureShape, value: Any, path: str) -> dict[str, Any]:
        _typed(value, dict, "a structure", path)
        known = {}
        for name, member in shape.members.items():
            inner = _joined(path, name[0].lower() + name[1:])
            if value.get(name) is not None:
                known[name] = self.value(member, value[name], inner)
            elif name in shape.required_members:
                self._broken(None, inner, constraints.NOT_NULL)
        return known

    def _list(self, shape: ListShape, value: Any, path: str) -> list[Any]:
        _typed(value, list, "a list", path)
        if self._wrong_length(shape, value, path):
            return []
        return [
            self.value(shape.member, item, f"{path}.{number}.member")
            for number, item in enumerate(value, 1)
        ]

    def _map(self, shape: MapShape, value: Any, path: str) -> dict[str, Any]:
        _typed(value, dict, "a map", path)
        if self._wrong_length(shape, value, path):
            return {}
        for what, part, items in (
            ("keys", shape.key, value.keys()),
            ("value", shape.value, value.values()),
        ):
            limits = [
                limit
                for item in items
                for limit in _limits_of(part, _typed(item, str, "a String", path))
            ]
            if limits:
                inner = f"Map {what} must satisfy constraint: [{', '.join(dict.fromkeys(limits))}]"
                self._broken(value, path, inner)
        return dict(value)

    def _string(self, shape: StringShape, value: str, path: str) -> None:
        for limit in _limits_of(shape, value):
            self._broken(value, path, limit)

    def _scalar(self, shape: Shape, value: Any, path: str) -> None:
        kind = shape.type_name
        if kind == "boolean":
            _typed(value, bool, "a Boolean", path)
            return
        shown = _SHOWN.get(kind, "a Date")  # timestamps are seconds
        _typed(value, int if kind in _INTEGERS else (int, float), shown, path)
        if not abs(value) <= _MOST:  # NaN neither
            raise SerializationException(
                f"NUMBER_VALUE can not be converted to {shown} at '{path}'"
            )
        least, most = shape.metadata.get("min"), shape.metadata.get("max")
        if least is not None and value < least:
            self._broken(value, path, constraints.value(at_least=least))
        if most is not None and value > most:
            self._broken(value, path, constraints.value(at_most=most))

    def _wrong_length(self, shape: Shape, value: Any, path: str) -> bool:
        limits = list(_length_limits(shape, value))
        for limit in limits:
            self._broken(value, path, limit)
        return bool(limits)

    def _broken(self, value: Any, path: str, constraint: str) -> None:
        self.violations.append(constraints.violation(value, path, constraint))


def _joined(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def _typed(value: Any, kind: type | tuple[type, ...], shown: str, path: str) -> Any:
    """The value, if it is of that kind; true and false are no numbers."""
    if isinstance(value, kind) and (kind is bool or not isinstance(value, bool)):
        return value
    found = _KINDS.get(type(value), "a list or structure")
    where = f" at '{path}'" if path else ""
    raise SerializationException(f"{found} can not be converted to {shown}{where}")


def _limits_of(shape: Shape, value: str) -> Iterator[str]:
    """What a string breaks."""
    if shape.enum and value not in shape.enum:
        yield constraints.enum(shape.enum)
    too_long_or_short = list(_length_limits(shape, value))
    yield from too_long_or_short
    text = _ALSO.get(shape.name, shape.metadata.get("pattern"))
    if text and not too_long_or_short and not _matcher(text)(value):
        yield constraints.pattern(text)


def _length_limits(shape: Shape, value: Any) -> Iterator[str]:
    least, most = shape.metadata.get("min"), shape.metadata.get("max", math.inf)
    if least is not None and len(value) < least:
        yield constraints.length(at_least=least)
    if len(value) > most:
        yield constraints.length(at_most=most)


@cache
def _matcher(text: str) -> Callable[[str], object]:
    """Patterns match whole values; those that only Java understands match everything."""
    try:
        return re.compile(text).fullmatch
    except re.error:
        return lambda value: True
