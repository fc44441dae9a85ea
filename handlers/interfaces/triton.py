"""Models of Triton: tensors in, tensors out, checked against ``config.pbtxt``.

What computes is a *backend*: the model's own ``TritonPythonModel``, or a framework's model that is
asked with named arrays.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from handlers.data import v2
from handlers.directory.triton import (
    FIL,
    ONNX,
    PYTHON,
    PYTORCH,
    TENSORFLOW,
    TensorSpec,
    read_triton,
)
from handlers.errors import HandlerError, InvalidInput, ModelLoadError
from handlers.interfaces.context import Context
from handlers.interfaces.triton_frameworks import FrameworkBackend
from handlers.interfaces.triton_python import PythonBackend
from handlers.interfaces.user_errors import failure
from handlers.parking import parking_of
from handlers.types import HandlerOptions, ModelPlan, Parking, Request, Resources, Response

log = logging.getLogger("modelyard.handlers")

TARGET_HEADER = "X-Amzn-SageMaker-Target-Model"  # which Triton calls the model by

Outputs = Mapping[str, Any]


class Backend(Protocol):
    """What computes. ``max_rows`` is 0 for a model whose shapes have no axis for a batch."""

    @property
    def max_rows(self) -> int:
        """How many rows one call may have."""

    @property
    def inputs(self) -> Sequence[TensorSpec]:
        """What the model takes; empty where it is left to the model itself."""

    @property
    def outputs(self) -> Sequence[TensorSpec]:
        """What it gives; empty where it is left to the model itself."""

    @property
    def owner(self) -> Any:
        """The object whose weights can leave a GPU."""

    def compute(self, calls: Sequence[v2.Call]) -> list[Outputs | HandlerError]:
        """For each call, in order, its outputs by name or why there are none."""
        ...

    def finalize(self) -> None:
        """The model is about to go."""


class TritonService:
    """A loaded model of Triton."""

    takes_batches = True

    def __init__(
        self, backend: Backend, version: str, name: str, parking: Parking | None = None
    ) -> None:
        self.parking = parking
        self._backend = backend
        self._version = version
        self._name = name

    def invoke(self, request: Request) -> Response:
        """Answer one request, as a batch of one."""
        answer = self.invoke_batch((request,))[0]
        if isinstance(answer, HandlerError):
            raise answer
        return answer

    def invoke_batch(self, batch: Sequence[Request]) -> list[Response | HandlerError]:
        """Answer requests together: a bad one fails alone. What the model raises is raised."""
        read = [self._read(request) for request in batch]
        computed = iter(self._compute([call for call in read if isinstance(call, v2.Call)]))
        found: list[Response | HandlerError] = []
        for request, call in zip(batch, read, strict=True):
            if isinstance(call, HandlerError):
                found.append(call)
            else:
                found.append(self._write(request, call, next(computed)))
        return found

    def finalize(self) -> None:
        """Let the model's own code clean up."""
        self._backend.finalize()

    def _read(self, request: Request) -> v2.Call | HandlerError:
        try:
            call = v2.read(request)
            if call.raw is not None:
                call = _of_one_tensor(call, self._backend)
            _check_names(call, self._backend)
            for spec in self._backend.inputs:
                if spec.name in call.inputs:
                    _check(spec, call, self._backend.max_rows)
            _check_rows(call, self._backend.max_rows)
            return call
        except Exception as error:
            return failure(error)

    def _compute(self, calls: Sequence[v2.Call]) -> list[Outputs | HandlerError]:
        """All calls, in as few as the rows that one may have allow."""
        found: list[Outputs | HandlerError] = []
        start = rows = 0
        for idx, call in enumerate(calls):
            more = _rows(call) if self._backend.max_rows else 0
            if idx > start and self._backend.max_rows and rows + more > self._backend.max_rows:
                found += self._backend.compute(calls[start:idx])
                start, rows = idx, 0
            rows += more
        return found + self._backend.compute(calls[start:]) if calls[start:] else found

    def _write(
        self, request: Request, call: v2.Call, outputs: Outputs | HandlerError
    ) -> Response | HandlerError:
        if isinstance(outputs, HandlerError):
            return outputs
        called = request.headers.get(TARGET_HEADER) or self._name
        try:
            given = outputs
            if not call.outputs and self._backend.outputs:
                names = [spec.name for spec in self._backend.outputs]
                given = {name: outputs[name] for name in names if name in outputs}
            return v2.write(request, call, given, model_name=called, version=self._version)
        except Exception as error:
            return failure(error)


def load_triton(
    plan: ModelPlan, context: Context, options: HandlerOptions, resources: Resources
) -> TritonService:
    """Load the model as its backend does. Errors of its code are the author's own."""
    model = read_triton(Path(plan.model_dir))
    if model is None:
        raise ModelLoadError("config.pbtxt is gone.")
    backend: Backend
    if model.backend == PYTHON:
        backend = PythonBackend(model, resources)
    else:
        assert model.backend in (ONNX, PYTORCH, TENSORFLOW, FIL)
        backend = FrameworkBackend(model, plan, resources)
    parking = parking_of(backend.owner, resources)
    return TritonService(backend, model.version, context.model_name or model.name, parking)


def _rows(call: v2.Call) -> int:
    return max((len(array) for array in call.inputs.values() if array.ndim), default=1)


def _of_one_tensor(call: v2.Call, backend: Backend) -> v2.Call:
    """A call of nothing but bytes, for a model with one input of at most one open axis."""
    spec = backend.inputs[0] if len(backend.inputs) == 1 else None
    if spec is None or spec.dims.count(-1) > 1 or call.raw is None:
        raise InvalidInput("Only a model with one input of a known shape takes bytes alone.")
    shape = [1, *spec.dims] if backend.max_rows else list(spec.dims)
    if -1 in shape or spec.datatype == "BYTES":
        open_axis = shape.index(-1) if -1 in shape else 0
        shape[open_axis] = _open_length(call.raw, spec, shape)
    array = v2.from_bytes(call.raw, spec.datatype, shape, spec.name)
    return v2.Call({spec.name: array}, {spec.name: spec.datatype}, binary=True)


def _open_length(raw: bytes, spec: TensorSpec, shape: Sequence[int]) -> int:
    if spec.datatype == "BYTES":
        return 1  # else from_bytes says how many there are
    one: int = v2.from_bytes(b"", spec.datatype, (0,), spec.name).itemsize
    for length in shape:
        one *= max(length, 1)
    return len(raw) // max(one, 1)


def _check_names(call: v2.Call, backend: Backend) -> None:
    known = [spec.name for spec in backend.inputs]
    if known:
        missing = [s.name for s in backend.inputs if not s.optional and s.name not in call.inputs]
        unknown = [name for name in call.inputs if name not in known]
        if missing or unknown:
            wrong = f"{missing[0]!r} is missing" if missing else f"there is no {unknown[0]!r}"
            raise InvalidInput(f"The model takes the inputs {', '.join(known)}; {wrong}.")
    given = [spec.name for spec in backend.outputs]
    for asked in call.outputs:
        if given and asked.name not in given:
            raise InvalidInput(f"There is no output {asked.name!r}; there are {', '.join(given)}.")


def _check_rows(call: v2.Call, max_rows: int) -> None:
    """Raise unless all inputs have as many rows."""
    lengths = {name: len(array) if array.ndim else 0 for name, array in call.inputs.items()}
    if max_rows and len(set(lengths.values())) > 1:
        told = ", ".join(f"{name} {length}" for name, length in lengths.items())
        raise InvalidInput(f"All inputs must have as many rows; they have: {told}.")


def _check(spec: TensorSpec, call: v2.Call, max_rows: int) -> None:
    """Raise unless an input is as the configuration says; bring it into the model's own shape."""
    array, datatype = call.inputs[spec.name], call.datatypes[spec.name]
    if datatype != spec.datatype:
        raise InvalidInput(f"The input {spec.name!r} is {spec.datatype}, not {datatype}.")
    shape = array.shape[1:] if max_rows else array.shape
    wanted = [*([-1] if max_rows else []), *spec.dims]
    fits = len(shape) == len(spec.dims) and all(
        dim in (-1, length) for dim, length in zip(spec.dims, shape, strict=True)
    )
    if not fits or len(array.shape) != len(wanted):
        raise InvalidInput(
            f"The input {spec.name!r} has the shape {list(array.shape)}; the model takes {wanted}."
        )
    if max_rows and len(array) > max_rows:
        raise InvalidInput(f"The batch has {len(array)} rows; the model takes {max_rows} at most.")
    if spec.reshape is not None:
        rows = array.shape[:1] if max_rows else ()
        call.inputs[spec.name] = array.reshape(*rows, *spec.reshape)
