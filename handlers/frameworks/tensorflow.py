"""TensorFlow: SavedModels, asked as TensorFlow Serving is, and Keras files.

TensorFlow starts threads when it first computes, and does not survive a fork after that. So the
zygote only imports it.
"""

from __future__ import annotations

import logging
import os
import re
import sys
from importlib import import_module
from importlib.util import find_spec
from itertools import islice
from pathlib import Path
from typing import Any

from handlers.data.envelopes import INSTANCES, Envelope, Reply
from handlers.directory.artifacts import Contents, pick
from handlers.errors import InvalidInput, ModelLoadError
from handlers.frameworks import python
from handlers.frameworks.parts.tensorflow_serving import (
    PREDICTIONS,
    Call,
    by_name,
    plain_outputs,
    row_by_row,
    signature_of,
    with_bytes,
)
from handlers.interfaces.user_errors import is_out_of_memory
from handlers.types import ModelPlan, Resources

log = logging.getLogger("modelyard.handlers")

NAME = "tensorflow"
MODULES: tuple[str, ...] = ("tensorflow", "keras", "tensorflow_hub", "tensorflow_text")
EXTENSIONS: tuple[str, ...] = (".keras", ".h5", ".hdf5")
PINS: tuple[str, ...] = ("tensorflow-cpu==2.21.0",)
resident_bytes = 550 << 20

SAVED_MODEL = "saved_model.pb"
SERVING = "serve"  # the tag that TensorFlow Serving asks for
DEFAULT_SIGNATURE = "serving_default"

# Where a SavedModel lies in archives: numbered versions, alone or under one name.
_MAX_DIRECTORIES = 32  # looked into; an archive of more is no model's
_MAX_NAMES = 256  # in each of them


def installed() -> bool:
    """Whether tensorflow can be imported."""
    return find_spec("tensorflow") is not None


def find_artifact(contents: Contents) -> str | None:
    """The SavedModel's file, of the highest version where there are several; or a Keras file."""
    if SAVED_MODEL in contents.files:
        return SAVED_MODEL
    found = _latest(contents.path, contents.directories)
    if found is None:
        inside = [_inside(contents.path / name) for name in contents.directories[:_MAX_DIRECTORIES]]
        named = [place for place in inside if place is not None]
        found = named[0] if len(named) == 1 else None
    if found is None:
        return pick(contents.files, EXTENSIONS)
    return str(found.relative_to(contents.path))


def _latest(folder: Path, names: tuple[str, ...]) -> Path | None:
    """The SavedModel in the directory with the highest number."""
    for name in sorted((n for n in names if n.isdecimal()), key=int, reverse=True):
        if (folder / name / SAVED_MODEL).is_file():
            return folder / name / SAVED_MODEL
    return None


def _inside(folder: Path) -> Path | None:
    """The SavedModel in ``name/``, ``name/1/`` or, as SageMaker has it, ``export/Servo/1/``."""
    places = [folder / "Servo", folder] if folder.name == "export" else [folder]
    for place in places:
        if (place / SAVED_MODEL).is_file():
            return place / SAVED_MODEL
        if place.is_dir():
            names = tuple(path.name for path in islice(place.iterdir(), _MAX_NAMES))
            if (found := _latest(place, names)) is not None:
                return found
    return None


def preload() -> None:
    """Import it, and nothing more."""
    python.preload()
    _tensorflow()


def _tensorflow() -> Any:
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "1")  # without a line for each optimisation
    return import_module(NAME)


def after_fork(threads: int) -> None:
    """Limit the threads that TensorFlow will start, and give it fresh random state."""
    python.after_fork(threads)
    if NAME in sys.modules:
        _limit(threads)


def _limit(threads: int) -> None:
    threading = _tensorflow().config.threading
    if threading.get_intra_op_parallelism_threads() == threads:
        return
    try:
        threading.set_intra_op_parallelism_threads(threads)
        threading.set_inter_op_parallelism_threads(threads)
    except RuntimeError as error:  # the model's own code was quicker to use it
        log.warning("TensorFlow keeps its threads: %s", error)


def load(plan: ModelPlan, resources: Resources) -> Any:
    """A ``Signatures`` or a Keras model. Raises ``ModelLoadError``."""
    if not installed():
        raise ModelLoadError(f"{plan.artifact} needs TensorFlow, which is missing.")
    tf = _tensorflow()
    _limit(resources.threads)
    _choose_device(tf, resources.gpu_id)
    path = Path(plan.model_dir, plan.artifact or "")
    try:
        if path.name != SAVED_MODEL:
            return KerasModel(tf.keras.models.load_model(path, compile=False))
        loaded = tf.saved_model.load(str(path.parent), tags=[SERVING])
    except Exception as error:  # of any kind, for a file that is damaged
        if is_out_of_memory(error):
            raise
        raise ModelLoadError(
            f"TensorFlow {tf.__version__} cannot load {plan.artifact}: {_in_a_line(error)} "
            "(The model may be damaged or incomplete, or be of another version.)"
        ) from error
    if not loaded.signatures:
        raise ModelLoadError(
            f"{plan.artifact} has no signature to call. Save the model with signatures="
            f"{{{DEFAULT_SIGNATURE!r}: function}}, or a Keras model with model.export()."
        )
    return Signatures(loaded)


def _choose_device(tf: Any, gpu_id: int | None) -> None:
    gpus = tf.config.list_physical_devices("GPU")
    if gpu_id is None:
        wanted = []
    elif gpu_id < len(gpus):
        wanted = [gpus[gpu_id]]
        tf.config.experimental.set_memory_growth(gpus[gpu_id], True)
    else:
        raise ModelLoadError(
            f"The model is to run on GPU {gpu_id}, but TensorFlow {tf.__version__} sees "
            f"{len(gpus) or 'none'}. Use an image with a CUDA build of it, or the device cpu."
        )
    if gpus:
        tf.config.set_visible_devices(wanted, "GPU")


class Signatures:
    """A loaded SavedModel: its functions by the names that clients ask for."""

    def __init__(self, loaded: Any) -> None:
        self._loaded = loaded  # which owns the variables that the functions use
        self._functions = dict(loaded.signatures)

    def __call__(self, data: Any) -> Any:
        """What the function returns: one output by itself, or several by name."""
        return plain_outputs(self.named(data))

    def named(self, data: Any) -> dict[str, Any]:
        """What the function returns, arrays by name. Raises ``InvalidInput``."""
        tf = _tensorflow()
        call = data if isinstance(data, Call) else Call(data)
        function = self._function(call.signature)
        wanted = function.structured_input_signature[1]
        given = by_name(call.data, list(wanted))
        try:
            tensors = {
                name: tf.convert_to_tensor(_of_type(given[name], spec), dtype=spec.dtype)
                for name, spec in wanted.items()
            }
            outputs = function(**tensors)
        except (tf.errors.InvalidArgumentError, ValueError, TypeError) as error:
            shapes = ", ".join(
                f"{name}: {spec.dtype.name} {spec.shape}" for name, spec in wanted.items()
            )
            raise InvalidInput(f"The model takes {shapes}: {_in_a_line(error)}") from error
        return {name: value.numpy() for name, value in outputs.items()}

    def _function(self, name: str | None) -> Any:
        only = next(iter(self._functions)) if len(self._functions) == 1 else DEFAULT_SIGNATURE
        wanted = name or (DEFAULT_SIGNATURE if DEFAULT_SIGNATURE in self._functions else only)
        if wanted not in self._functions:
            known = ", ".join(sorted(self._functions))
            raise InvalidInput(f"The model has no signature {wanted!r}; it has {known}.")
        return self._functions[wanted]


class KerasModel:
    """A model from a Keras file, called without what only training does."""

    def __init__(self, model: Any) -> None:
        self._model = model

    def __call__(self, data: Any) -> Any:
        """The prediction for a batch: one output by itself, or several by name."""
        tf = _tensorflow()
        inputs, outputs = self._model.inputs, self._model.outputs
        given = by_name(data.data if isinstance(data, Call) else data, [i.name for i in inputs])
        try:
            tensors = [
                tf.convert_to_tensor(_of_type(given[i.name], i), dtype=i.dtype) for i in inputs
            ]
            result = self._model(tensors[0] if len(tensors) == 1 else tensors, training=False)
        except (tf.errors.InvalidArgumentError, ValueError, TypeError) as error:
            raise InvalidInput(f"The model does not take this: {_in_a_line(error)}") from error
        if isinstance(result, list | tuple):
            result = dict(zip([output.name for output in outputs], result, strict=True))
        if not isinstance(result, dict):
            result = {"": result}
        return plain_outputs({name: value.numpy() for name, value in result.items()})


def _in_a_line(error: Exception) -> str:
    """A message without its colours and line breaks, and no longer than anybody reads."""
    return " ".join(re.sub(r"\x1b\[[0-9;]*m", "", str(error)).split())[:500]


def _of_type(value: Any, spec: Any) -> Any:
    """Numbers in the type that is wanted; JSON has one kind, arrays another."""
    import numpy as np

    kind = np.dtype(getattr(spec.dtype, "as_numpy_dtype", spec.dtype))
    if kind.kind == "O":  # text
        return value.tolist() if hasattr(value, "tolist") else value
    return np.asarray(value).astype(kind)


def input_fn(body: bytes, content_type: str) -> Any:
    """The body as a request to TensorFlow Serving: rows by themselves are its instances."""
    value = python.input_fn(body, content_type, with_bytes)
    if type(value) is not Envelope:
        value = with_bytes(value)
        return Envelope({INSTANCES: value}, value, PREDICTIONS)
    name = signature_of(value)
    if name is not None:
        value.data = Call(value.data, name)
    return value


def predict_fn(data: Any, model: Any) -> Any:
    """What the signature returns; of a model that is loaded otherwise, as without a framework."""
    if isinstance(data, Envelope):  # from an author's predict_fn that passes on what it got
        data = data.data
    if isinstance(model, Signatures | KerasModel):
        return model(data)
    return python.predict_fn(data.data if isinstance(data, Call) else data, model)


def output_fn(prediction: Any, accept: str, default_accept: str) -> tuple[bytes, str]:
    """The predictions in the best type the client accepts; of several outputs, row by row."""
    if isinstance(prediction, Reply) and PREDICTIONS in prediction:
        prediction = Reply(PREDICTIONS, row_by_row(prediction.bare))
    return python.output_fn(prediction, accept, default_accept)
