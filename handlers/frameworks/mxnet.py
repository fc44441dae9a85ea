"""MXNet: a symbol with its parameters, as gluon's export and Module.save_checkpoint write them.

MXNet 1.9.1 is its last version and needs a numpy that nobody else wants, so it has an environment
of its own.
"""

from __future__ import annotations

import ctypes
import json
import os
import re
import sys
import warnings
from collections.abc import Callable, Mapping
from functools import lru_cache
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from handlers.directory.artifacts import Contents
from handlers.errors import InvalidInput, ModelLoadError
from handlers.frameworks import python
from handlers.types import ModelPlan, Resources

NAME = "mxnet"
MODULES: tuple[str, ...] = ("mxnet", "gluonnlp", "gluoncv")
EXTENSIONS: tuple[str, ...] = (".params",)
# It imports onnx where the server has it, and later versions of ml_dtypes than this, which onnx
# imports, need a later numpy.
PINS: tuple[str, ...] = ("mxnet==1.9.1", "numpy==1.23.5", "ml_dtypes==0.5.4")
resident_bytes = 150 << 20

SYMBOL_END = "-symbol.json"
SHAPES = "model-shapes.json"  # of SageMaker's own: names and shapes of the inputs

LABEL = "label"  # ends the names of inputs that only training needs
NUMPY_SHAPES = "np shape semantics"  # how MXNet says that a file is of its numpy interface

_EPOCH = re.compile(r"-([0-9]{4,9})\.params")

_KEPT_SHAPES = 4  # executors, one for each shape of input; their memory is that of activations


def installed() -> bool:
    """Whether mxnet can be imported."""
    return find_spec("mxnet") is not None


def find_artifact(contents: Contents) -> str | None:
    """The parameters of the latest epoch that lie beside their symbol."""
    symbols = [name for name in contents.files if name.endswith(SYMBOL_END) and name[0] != "."]
    prefixes = [name.removesuffix(SYMBOL_END) for name in symbols]
    chosen = "model" if "model" in prefixes else prefixes[0] if len(prefixes) == 1 else None
    if chosen is None:
        return None
    start = len(chosen)
    epochs = [f for f in contents.files if f.startswith(chosen) and _EPOCH.fullmatch(f[start:])]
    return max(epochs, key=lambda name: int(name[start + 1 : -len(".params")]), default=None)


def preload() -> None:
    """Import it, and run a tiny symbol: its simplest engine computes on the calling thread."""
    python.preload()
    # The other engines start threads, in this process too as soon as it has forked.
    os.environ["MXNET_ENGINE_TYPE"] = "NaiveEngine"
    os.environ.setdefault("MXNET_SUBGRAPH_VERBOSE", "0")  # no line for each model that is bound
    mx = _mxnet()
    data = mx.sym.Variable("data")
    symbol = mx.sym.FullyConnected(data, num_hidden=1, no_bias=True, name="dense")
    model = SymbolModel(symbol, {"dense_weight": mx.nd.ones((1, 2))}, {}, {"data": None}, mx.cpu())
    body, _ = output_fn(predict_fn(mx.nd.array([[1, 2]]), model), "", "application/json")
    assert body == b"[[3.0]]", body


def _mxnet() -> Any:
    with warnings.catch_warnings(action="ignore"):  # it is older than what it imports
        return import_module(NAME)


def after_fork(threads: int) -> None:
    """Give MXNet's OpenMP this many threads, and fresh random state."""
    python.after_fork(threads)
    if NAME in sys.modules:
        _seed_and_limit(threads)


def _seed_and_limit(threads: int) -> None:
    mx = _mxnet()
    mx.random.seed(int.from_bytes(os.urandom(4), "big") >> 1)
    mx.base.check_call(mx.base._LIB.MXSetNumOMPThreads(ctypes.c_int(threads)))


def load(plan: ModelPlan, resources: Resources) -> Any:
    """A ``SymbolModel``. Raises ``ModelLoadError``."""
    if not installed():
        raise ModelLoadError(f"{plan.artifact} needs MXNet, which is missing.")
    mx = _mxnet()
    _seed_and_limit(resources.threads)
    folder, artifact = Path(plan.model_dir), plan.artifact or ""
    symbol_file = _EPOCH.sub(SYMBOL_END, artifact)
    context = _context(mx, resources.gpu_id)
    symbol = _read(mx.sym.load, folder / symbol_file)
    saved = _read(mx.nd.load, folder / artifact)
    arg = _part(saved, "arg", context)
    aux = _part(saved, "aux", context)
    inputs = _inputs(folder, symbol, {*arg, *aux})
    known = {*arg, *aux, *inputs}
    missing = [n for n in symbol.list_inputs() if n not in known and not n.endswith(LABEL)]
    if missing:
        raise ModelLoadError(f"{artifact} lacks {', '.join(missing)}, which {symbol_file} needs.")
    return SymbolModel(symbol, arg, aux, inputs, context)


def _read(read: Callable[[str], Any], path: Path) -> Any:
    mx = _mxnet()
    try:
        return read(str(path))
    except (mx.base.MXNetError, UnicodeDecodeError) as error:
        if NUMPY_SHAPES in str(error) and not mx.util.is_np_shape():
            mx.util.set_np_shape(True)  # for good: the process has no other model
            return _read(read, path)
        raise ModelLoadError(f"{path.name} is damaged or incomplete: {_reason(error)}") from error


def _context(mx: Any, gpu_id: int | None) -> Any:
    if gpu_id is None:
        return mx.cpu()
    seen = mx.context.num_gpus()
    if gpu_id >= seen:
        raise ModelLoadError(
            f"The model is to run on GPU {gpu_id}, but MXNet sees {seen or 'none'}. Use an image "
            "with a CUDA build of MXNet, or the device cpu."
        )
    return mx.gpu(gpu_id)


def _part(saved: Any, kind: str, context: Any) -> dict[str, Any]:
    """The parameters saved as ``arg:name`` or ``aux:name``; those without a kind are ``arg``."""
    if not isinstance(saved, dict):
        raise ModelLoadError("The parameters have no names; save them with the symbol.")
    split = [(*name.rpartition(":")[::2], value) for name, value in saved.items()]
    return {name: v.as_in_context(context) for k, name, v in split if (k or "arg") == kind}


def _inputs(folder: Path, symbol: Any, parameters: set[str]) -> dict[str, tuple[int, ...] | None]:
    """The inputs by name, with the shape of one row where ``model-shapes.json`` tells it."""
    if (folder / SHAPES).is_file():
        try:
            described = json.loads((folder / SHAPES).read_bytes())
            return {item["name"]: tuple(map(int, item["shape"][1:])) for item in described}
        except (ValueError, TypeError, KeyError) as error:
            raise ModelLoadError(
                f'{SHAPES} must be a list of {{"name": "data", "shape": [1, ...]}}: {error!r}.'
            ) from error
    free = [name for name in symbol.list_inputs() if name not in parameters]
    auxiliary = symbol.list_auxiliary_states()
    data = [name for name in free if not name.endswith(LABEL) and name not in auxiliary]
    if not data:
        raise ModelLoadError("The symbol has no input that is not among its parameters.")
    return dict.fromkeys(data)


class SymbolModel:
    """A symbol with its parameters; called with an array for each of its inputs."""

    def __init__(
        self,
        symbol: Any,
        arg: dict[str, Any],
        aux: dict[str, Any],
        inputs: dict[str, tuple[int, ...] | None],
        context: Any,
    ) -> None:
        self._symbol, self._arg, self._aux = symbol, arg, aux
        self._inputs = inputs
        self._context = context
        self._executor = lru_cache(_KEPT_SHAPES)(self._bind)

    def __call__(self, data: Any) -> Any:
        """What the symbol computes: an array, or a list of them. Raises ``InvalidInput``."""
        mx = _mxnet()
        named = {name: self._shaped(name, value) for name, value in self._named(data).items()}
        try:
            executor = self._executor(tuple((name, value.shape) for name, value in named.items()))
            outputs = executor.forward(is_train=False, **named)
            arrays = [output.asnumpy() for output in outputs]
        except mx.base.MXNetError as error:
            shapes = ", ".join(f"{name} {value.shape}" for name, value in named.items())
            raise InvalidInput(f"The model does not take {shapes}: {_reason(error)}") from error
        return arrays[0] if len(arrays) == 1 else arrays

    def _named(self, data: Any) -> dict[str, Any]:
        names = list(self._inputs)
        if not isinstance(data, Mapping):
            data = {names[0]: data} if len(names) == 1 else {}
        if set(data) != set(names):
            raise InvalidInput(
                f'This model takes the inputs {", ".join(names)}; send {{"inputs": '
                f'{{"{names[0]}": [...]}}}} with each of them.'
            )
        return dict(data)

    def _shaped(self, name: str, value: Any) -> Any:
        """The value as an array on the device, in rows of the shape that is known."""
        mx = _mxnet()
        if value is None:
            raise InvalidInput(f"{name} is null; send an array.")
        try:
            array = mx.nd.array(value, ctx=self._context)
        except (TypeError, ValueError) as error:
            raise InvalidInput(f"{name} must be numbers: {error}") from error
        row = self._inputs[name]
        if row is None or array.shape[1:] == row:
            return array
        try:
            return array.reshape((-1, *row))
        except (mx.base.MXNetError, ValueError) as error:
            raise InvalidInput(
                f"{name} has the shape {array.shape}; {SHAPES} says that a row has {row}."
            ) from error

    def _bind(self, shapes: tuple[tuple[str, tuple[int, ...]], ...]) -> Any:
        """An executor for inputs of these shapes. It shares the parameters with the others."""
        zeros = _mxnet().nd.zeros
        wanted = self._symbol.list_arguments()
        known = {name: self._arg[name].shape for name in wanted if name in self._arg}
        inferred, _, _ = self._symbol.infer_shape(**{**known, **dict(shapes)})
        if inferred is None:
            raise InvalidInput(f"The model's shapes do not follow from those of {shapes}.")
        arg = {
            name: self._arg[name] if name in self._arg else zeros(shape, ctx=self._context)
            for name, shape in zip(wanted, inferred, strict=True)
        }
        return self._symbol.bind(self._context, arg, grad_req="null", aux_states=self._aux)


def _reason(error: Exception) -> str:
    """MXNet's message without the stack traces of its Python and its C++."""
    lines = [line for line in str(error).partition("Stack trace")[0].splitlines() if line.strip()]
    found = [line for line in lines if "Error in operator" in line or "Check failed" in line]
    return (found or lines or [repr(error)])[-1]


def input_fn(body: bytes, content_type: str) -> Any:
    """An NDArray where the body is numeric, float32 as models want it."""
    return python.input_fn(body, content_type, _as_ndarray)


def _as_ndarray(value: Any) -> Any:
    if not hasattr(value, "dtype"):
        return value
    try:
        return _mxnet().nd.array(value)
    except (TypeError, ValueError) as error:
        raise InvalidInput(f"The body cannot be an NDArray: {error}") from error


def predict_fn(data: Any, model: Any) -> Any:
    """``model(data)`` of a symbol or a gluon block, ``model.predict(data)`` of a Module."""
    return python.predict_fn(data, model)


def output_fn(prediction: Any, accept: str, default_accept: str) -> tuple[bytes, str]:
    """The predictions in the best type the client accepts."""
    return python.output_fn(_plain(prediction), accept, default_accept)


def _plain(prediction: Any) -> Any:
    """NDArrays as numpy arrays."""
    if isinstance(prediction, list | tuple):
        return [_plain(item) for item in prediction]
    return prediction.asnumpy() if hasattr(prediction, "asnumpy") else prediction
