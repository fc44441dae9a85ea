"""The few types that pass between the server and a model: request, response, plan, service."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Protocol, TypeVar, overload

Default = TypeVar("Default")


class Headers(Mapping[str, str]):
    """Request headers: look-ups ignore case, iteration keeps the client's spelling and order.

    A header sent twice reads as its values joined by ", " (RFC 9110, section 5.2).
    """

    __slots__ = ("_index", "pairs")

    def __init__(self, pairs: tuple[tuple[str, str], ...] = ()) -> None:
        self.pairs = pairs
        self._index: dict[str, str] | None = None

    def _lookup(self) -> dict[str, str]:
        if self._index is None:  # built on first use: most handlers never look
            index = {name.lower(): value for name, value in self.pairs}
            if len(index) < len(self.pairs):
                index = _joined(self.pairs)
            self._index = index
        return self._index

    def __getitem__(self, name: str) -> str:
        return self._lookup()[name.lower()]

    @overload
    def get(self, key: str) -> str | None: ...

    @overload
    def get(self, key: str, default: str | Default) -> str | Default: ...

    def get(self, key: str, default: Any = None) -> Any:
        """One header, or the default. Mapping's own, which raises and catches, is slow."""
        return self._lookup().get(key.lower(), default)

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and name.lower() in self._lookup()

    def __iter__(self) -> Iterator[str]:
        seen = set()
        for name, _ in self.pairs:
            if name.lower() not in seen:
                seen.add(name.lower())
                yield name

    def __len__(self) -> int:
        return len(self._lookup())


def _joined(pairs: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Values by lower-case name, those of one name joined."""
    index: dict[str, str] = {}
    for name, value in pairs:
        key = name.lower()
        index[key] = f"{index[key]}, {value}" if key in index else value
    return index


@dataclass(frozen=True, slots=True)
class Request:
    """One request to one model. ``body`` is what the client sent, byte for byte."""

    body: bytes
    headers: Headers = field(default_factory=Headers)
    model_name: str = ""
    request_id: str = ""

    @property
    def content_type(self) -> str:
        """The Content-Type header as sent, or "" when there is none."""
        return self.headers.get("content-type", "")

    @property
    def accept(self) -> str:
        """The Accept header as sent, or "" when there is none."""
        return self.headers.get("accept", "")


@dataclass(frozen=True, slots=True)
class Response:
    """What goes back to the client. ``headers`` are extra ones; framing headers are ours."""

    body: bytes
    content_type: str = "application/json"
    status: int = 200
    headers: tuple[tuple[str, str], ...] = ()


class Interface(Enum):
    """Which convention a model's own code follows."""

    DEFAULT = "default"  # no code: the framework's loader and predict
    SAGEMAKER = "sagemaker"  # model_fn, input_fn, predict_fn, output_fn, transform_fn
    CUSTOM_SERVICE = "custom-service"  # multi-model-server: handle(data, context)


@dataclass(frozen=True, slots=True)
class ModelPlan:
    """How a directory will be loaded; made without importing the model's code or framework.

    ``framework`` names a module of ``handlers.frameworks`` and so the zygote to fork from.
    ``script`` is the file with the model's own code. ``handler`` is ``module:function`` of a custom
    service. ``artifact`` is the file the default loader reads. ``code_dirs`` go in front of
    ``sys.path``. ``weight_bytes`` is the size of the files that a load reads, used to predict its
    memory until it has been measured.
    """

    model_dir: str
    framework: str
    interface: Interface
    script: str | None = None
    handler: str | None = None
    artifact: str | None = None
    code_dirs: tuple[str, ...] = ()
    weight_bytes: int = 0


@dataclass(frozen=True, slots=True)
class HandlerOptions:
    """The settings of the container that shape how handlers are found and run.

    ``program``: SAGEMAKER_PROGRAM, the script's file name, ``inference.py`` when unset.
    ``handler``: SAGEMAKER_HANDLER, a custom service ``module_or_path[:function]``.
    ``shared_code_dir``: where one script for all models lies (``/opt/ml/models/code``).
    ``default_accept``: SAGEMAKER_DEFAULT_INVOCATIONS_ACCEPT, used when a client sends no Accept.
    """

    program: str | None = None
    handler: str | None = None
    shared_code_dir: str = "/opt/ml/models/code"
    default_accept: str = "application/json"


class Service(Protocol):
    """A loaded model. Called by one thread, one request at a time."""

    def invoke(self, request: Request) -> Response:
        """Answer one request, or raise a ``HandlerError``."""
        ...
