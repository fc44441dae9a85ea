"""The few types that pass between the server and a model: request, response, plan, service."""

from __future__ import annotations

import re
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Protocol, TypeVar, overload

from handlers.errors import HandlerError

Default = TypeVar("Default")

# Requests in a batch, at most: each of them has a place in the table of what is under way.
MAX_BATCH = 128


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
    """What goes back to the client. ``headers`` are extra ones; framing headers are ours.

    With ``stream`` the body is ``body`` followed by its chunks, sent as each is there. Iterating
    runs the model's code, so it may raise anything; ``stream.close()`` ends it early.
    """

    body: bytes
    content_type: str = "application/json"
    status: int = 200
    headers: tuple[tuple[str, str], ...] = ()
    stream: Generator[bytes, None, None] | None = None


class Interface(Enum):
    """Which convention a model's own code follows."""

    DEFAULT = "default"  # no code: the framework's loader and predict
    SAGEMAKER = "sagemaker"  # model_fn, input_fn, predict_fn, output_fn, transform_fn
    CUSTOM_SERVICE = "custom-service"  # multi-model-server: handle(data, context)
    TORCHSERVE = "torchserve"  # BaseHandler: initialize, preprocess, inference, postprocess, handle
    TRITON = "triton"  # config.pbtxt: a TritonPythonModel, or a framework's file asked by tensors


@dataclass(frozen=True, slots=True)
class ModelSettings:
    """How one model is served: the server's defaults, overridden by the model's own file.

    ``max_batch_delay_ms`` is how long the first request of a batch waits for others. ``threads``
    compute in each worker. ``device`` is ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
    ``share_weights`` allows further workers to be forked from the loaded model.
    ``max_memory_bytes`` is what each worker may take; 0 is no limit of the model's own.
    ``environment`` is set before the model's code is imported.
    """

    min_workers: int = 1
    max_workers: int = 1
    batch_size: int = 1
    max_batch_delay_ms: float = 0.0
    request_timeout_seconds: float = 60.0
    threads: int = 1
    device: str = "auto"
    pinned: bool = False
    share_weights: bool = True
    max_memory_bytes: int = 0
    environment: tuple[tuple[str, str], ...] = ()


def is_device(text: str) -> bool:
    """Whether a text names a device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``."""
    return re.fullmatch(r"auto|cpu|cuda(:[0-9]{1,3})?", text) is not None


@dataclass(frozen=True, slots=True)
class Requirements:
    """Packages that a model needs beyond what the server has: an environment of its own.

    ``pins`` are requirement specifiers (of a framework that lives apart, such as MXNet); ``file``
    is the model's requirements.txt; ``wheels`` a directory of packages, and when it is there
    nothing is fetched from an index.
    """

    pins: tuple[str, ...] = ()
    file: str | None = None
    wheels: str | None = None


@dataclass(frozen=True, slots=True)
class Resources:
    """What a model's process may compute with: threads, and the GPU (None: the CPU)."""

    threads: int = 1
    gpu_id: int | None = None


@dataclass(frozen=True, slots=True)
class ModelPlan:
    """How a directory will be loaded; made without importing the model's code or framework.

    ``framework`` names a module of ``handlers.frameworks`` and so the zygote to fork from.
    ``script`` is the file with the model's own code. ``handler`` is ``module:function`` of a custom
    service. ``artifact`` is the file or directory that the default loader reads, and ``loader`` the
    framework whose loader that is. ``code_dirs`` go in front of ``sys.path``. ``weight_bytes`` is
    the size of the files that a load reads, used to predict its memory until it has been measured;
    of these, ``mapped_bytes`` are mapped on a CPU and take no memory of the model's own.
    ``requirements`` are None for a model that needs no environment of its own.
    """

    model_dir: str
    framework: str
    interface: Interface
    script: str | None = None
    handler: str | None = None
    artifact: str | None = None
    loader: str | None = None
    code_dirs: tuple[str, ...] = ()
    weight_bytes: int = 0
    mapped_bytes: int = 0
    settings: ModelSettings = ModelSettings()
    requirements: Requirements | None = None


@dataclass(frozen=True, slots=True)
class HandlerOptions:
    """The settings of the container that shape how handlers are found and run.

    ``program``: SAGEMAKER_PROGRAM, the script's file name, ``inference.py`` when unset.
    ``handler``: SAGEMAKER_HANDLER, a custom service ``module_or_path[:function]``.
    ``shared_code_dir``: where one script for all models lies (``/opt/ml/models/code``).
    ``default_accept``: SAGEMAKER_DEFAULT_INVOCATIONS_ACCEPT, used when a client sends no Accept.
    ``defaults``: how models are served whose own settings file does not say otherwise.
    ``model_requirements``: whether a model's requirements.txt is followed.
    """

    program: str | None = None
    handler: str | None = None
    shared_code_dir: str = "/opt/ml/models/code"
    default_accept: str = "application/json"
    defaults: ModelSettings = ModelSettings()
    model_requirements: bool = True


class Parking(Protocol):
    """How a loaded model leaves its GPU and comes back, in the same process."""

    def park(self) -> None:
        """Release the memory of the GPU. What it raises means that the model stays there."""

    def restore(self) -> None:
        """Be as before. What it raises means that the model is still parked."""


class Service(Protocol):
    """A loaded model. Called by one thread, one request or one batch at a time."""

    @property
    def parking(self) -> Parking | None:
        """None for a model that is not on a GPU, or does not know how to leave it."""

    @property
    def takes_batches(self) -> bool:
        """Whether ``invoke_batch`` is more than one ``invoke`` after another."""

    def invoke(self, request: Request) -> Response:
        """Answer one request, or raise a ``HandlerError``."""
        ...

    def invoke_batch(self, batch: Sequence[Request]) -> list[Response | HandlerError]:
        """Answer requests together: for each, in order, a response or why there is none."""
        ...
