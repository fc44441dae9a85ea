"""ONNX Runtime: models of any framework, exported to ONNX.

Weights that lie beside the model, in files of external data, are mapped and not read: copies of the
model share them, and a load takes milliseconds. Weights inside the model's file are read.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

from handlers.data.envelopes import bare_rows
from handlers.data.tables import blamed_on_input, first_line
from handlers.directory.artifacts import Contents, pick
from handlers.errors import InvalidInput, ModelLoadError
from handlers.frameworks import python
from handlers.frameworks.parts import thread_pools
from handlers.types import ModelPlan, Resources

NAME = "onnx"
MODULES: tuple[str, ...] = ("onnxruntime", "onnx")
EXTENSIONS: tuple[str, ...] = (".onnx", ".ort")
PINS: tuple[str, ...] = ()
resident_bytes = 70 << 20

log = logging.getLogger("modelyard.handlers")

CUDA, CPU = "CUDAExecutionProvider", "CPUExecutionProvider"

# One node that gives back its input: a vector of float32.
_TINY = bytes.fromhex(
    "08083a390a100a017812017922084964656e746974791201675a100a0178120b0a09080112050a0312016e"
    "62100a0179120b0a09080112050a0312016e42040a00100d"
)

# The element types that have a counterpart in numpy; text is an array of objects.
_DTYPES = {
    "tensor(float)": "float32",
    "tensor(double)": "float64",
    "tensor(float16)": "float16",
    "tensor(bool)": "bool",
    "tensor(string)": "object",
    **{f"tensor(int{bits})": f"int{bits}" for bits in (8, 16, 32, 64)},
    **{f"tensor(uint{bits})": f"uint{bits}" for bits in (8, 16, 32, 64)},
}


class _Input(NamedTuple):
    name: str
    dtype: str | None
    shape: tuple[Any, ...]


class _Signature(NamedTuple):
    inputs: tuple[_Input, ...]
    outputs: tuple[str, ...]


def installed() -> bool:
    """Whether ONNX Runtime can be imported."""
    return find_spec("onnxruntime") is not None


def find_artifact(contents: Contents) -> str | None:
    """The ONNX file that is the model."""
    return pick(contents.files, EXTENSIONS)


def preload() -> None:
    """Make a session of a tiny model and run it, on one thread and on the CPU."""
    python.preload()
    import numpy as np

    session = _session(_TINY, Resources())
    predict_fn(np.ones(1), session)


def after_fork(threads: int) -> None:
    """Fresh random state, and BLAS's threads; a session starts threads of its own."""
    python.after_fork(threads)
    thread_pools.limit(threads)


def load(plan: ModelPlan, resources: Resources) -> Any:
    """An ``InferenceSession`` that maps external data, on the GPU if there is one to use."""
    if not installed():
        raise ModelLoadError(f"{plan.artifact} needs ONNX Runtime, which is missing.")
    import onnxruntime

    path = Path(plan.model_dir, plan.artifact or "")
    try:
        return _session(str(path), resources)
    except Exception as error:
        if type(error).__module__.partition(".")[0] != "onnxruntime":
            raise
        raise ModelLoadError(
            f"ONNX Runtime {onnxruntime.__version__} cannot load {path.name}: {_said(error)}"
            f"{_advice(str(error))}"
        ) from error


def _session(model: str | bytes, resources: Resources) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = resources.threads
    options.inter_op_num_threads = 1
    # Both would copy the weights: measured, 400 MB of them cost 405 MB with and 5 MB without.
    options.add_session_config_entry("session.disable_prepacking", "1")
    options.enable_cpu_mem_arena = False
    providers = _providers(onnxruntime.get_available_providers(), resources.gpu_id)
    return onnxruntime.InferenceSession(model, options, providers=providers)


def _providers(available: Sequence[str], gpu_id: int | None) -> list[Any]:
    """Where to compute, the preferred first: what CUDA cannot do is left to the CPU."""
    if gpu_id is None:
        return [CPU]
    if CUDA not in available:
        log.warning("this build of ONNX Runtime has no CUDA: the model runs on the CPU")
        return [CPU]
    return [(CUDA, {"device_id": gpu_id}), CPU]


def _said(error: Exception) -> str:
    """The runtime's words, without its name and code in front of them."""
    text = first_line(error)
    return text.split(" : ", 3)[-1] if text.startswith("[ONNXRuntimeError]") else text


def _advice(text: str) -> str:
    if "External data" in text:
        return " Its weights are in files of their own; put these beside it, under the same names."
    return ""


@lru_cache(maxsize=4)
def _signature(session: Any) -> _Signature:
    """What a session takes and gives; asking it each time costs more than a small model."""
    inputs = tuple(
        _Input(item.name, _DTYPES.get(item.type), tuple(item.shape))
        for item in session.get_inputs()
    )
    return _Signature(inputs, tuple(item.name for item in session.get_outputs()))


def input_fn(body: bytes, content_type: str) -> Any:
    """An array where the body is numeric, or one for each named input."""
    return python.input_fn(body, content_type)


def predict_fn(data: Any, model: Any) -> Any:
    """The output; of several, one dict a row, or one of arrays if the inputs came by name."""
    if not hasattr(model, "get_inputs"):
        return python.predict_fn(data, model)
    signature = _signature(model)
    feed = {
        item.name: _tensor(value, item)
        for item, value in zip(signature.inputs, _values(data, signature.inputs), strict=True)
    }
    from onnxruntime.capi.onnxruntime_pybind11_state import InvalidArgument

    with blamed_on_input(InvalidArgument):
        outputs = model.run(None, feed)
    if len(outputs) == 1:
        return outputs[0]
    named = dict(zip(signature.outputs, outputs, strict=True))
    return named if isinstance(data, dict) else _by_row(named, feed)


def _values(data: Any, inputs: tuple[_Input, ...]) -> list[Any]:
    """A value for each input: by name, by the names in each row, or the only one."""
    names = [item.name for item in inputs]
    if isinstance(data, list):
        data = bare_rows(data)
        if data and all(isinstance(row, dict) and row.keys() == data[0].keys() for row in data):
            data = {name: [row[name] for row in data] for name in data[0]}
    if isinstance(data, dict):
        if data.keys() != set(names):
            raise InvalidInput(
                f"The model's inputs are {', '.join(names)}; the request has {', '.join(data)}."
            )
        return [data[name] for name in names]
    if len(names) != 1:
        example = ", ".join(f'"{name}": [...]' for name in names)
        raise InvalidInput(f'The model has several inputs. Send {{"inputs": {{{example}}}}}.')
    return [data]


def _tensor(value: Any, item: _Input) -> Any:
    """A value as an array of the input's type; a column of single values gets its axis."""
    import numpy as np

    try:
        array = np.asarray(value)
        _check_integers(array, item)
        array = np.asarray(value, item.dtype)
    except (TypeError, ValueError, OverflowError) as error:
        raise InvalidInput(
            f"Input {item.name} cannot be an array of {item.dtype}: {error}"
        ) from error
    if array.ndim == len(item.shape) - 1 and item.shape[-1] == 1:
        return array.reshape(*array.shape, 1)
    return array


def _check_integers(array: Any, item: _Input) -> None:
    """numpy would cut the fraction off without a word."""
    wanted = item.dtype or ""
    if "int" in wanted and array.dtype.kind == "f" and (array % 1 != 0).any():
        raise ValueError("it has values with a fraction")


def _by_row(named: dict[str, Any], feed: dict[str, Any]) -> Any:
    """Outputs as one dict a row, if each has as many rows as the inputs."""
    rows = {len(value) for value in feed.values() if value.ndim}
    plain = [value.tolist() if hasattr(value, "tolist") else value for value in named.values()]
    if rows != {len(value) for value in plain if isinstance(value, list)}:
        return named
    if not all(isinstance(value, list) for value in plain):
        return named
    return [dict(zip(named, row, strict=True)) for row in zip(*plain, strict=True)]


def output_fn(prediction: Any, accept: str, default_accept: str) -> tuple[bytes, str]:
    """The outputs in the best type the client accepts."""
    return python.output_fn(prediction, accept, default_accept)
