"""No framework: a model that brings all its code. Also what the other frameworks have in common."""

from __future__ import annotations

import os
import random
import sys
from typing import Any

from handlers.data import codecs
from handlers.data.envelopes import Convert, opened
from handlers.directory.artifacts import Contents
from handlers.errors import ModelLoadError
from handlers.frameworks.parts import thread_pools
from handlers.optional_packages import raise_import_errors, usable
from handlers.types import ModelPlan, Resources

NAME = "python"
MODULES: tuple[str, ...] = ()
EXTENSIONS: tuple[str, ...] = ()
PINS: tuple[str, ...] = ()
resident_bytes = 34 << 20


def installed() -> bool:
    """Always: it is the interpreter itself."""
    return True


def find_artifact(contents: Contents) -> str | None:
    """Never: without a framework a file means nothing."""
    return None


def preload() -> None:
    """Import numpy, if there is one, and put a value through each codec."""
    _stay_silent()
    raise_import_errors()
    codecs.decode(b"[[1.0]]", "application/json")
    codecs.encode([[1.0]], "application/json", "application/json")
    if not usable("numpy"):
        return
    import numpy as np

    np.random.default_rng(0).random()  # numpy.random is a second, lazy import
    body, npy = codecs.encode(np.zeros((1, 1)), "application/x-npy", "application/json")
    codecs.decode(body, npy)
    codecs.decode(b"1,2\n", "text/csv")


def _stay_silent() -> None:
    """ONNX Runtime, which any model may import, reports models to its makers unless told not to."""
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")


def after_fork(threads: int) -> None:
    """Reseed what fork copied: siblings must not draw the same numbers."""
    _stay_silent()
    random.seed()
    if "numpy" in sys.modules:
        import numpy as np

        np.random.seed(int.from_bytes(os.urandom(4), "big"))
    if threads > 1:
        _allow(threads)


def _allow(threads: int) -> None:
    """Give numeric libraries more than the one thread that they were loaded with, or will be."""
    for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ[variable] = str(threads)
    thread_pools.limit(threads)


def load(plan: ModelPlan, resources: Resources) -> Any:
    """There is nothing that could be loaded without code."""
    raise ModelLoadError("A model without a framework needs a model_fn in code/inference.py.")


def _as_it_is(value: Any) -> Any:
    return value


def input_fn(body: bytes, content_type: str, convert: Convert = _as_it_is) -> Any:
    """The body as its content type says, or an ``Envelope`` of it.

    Other frameworks make their own kind of data in ``convert``, which gets an array where the data
    is numeric.
    """
    value = codecs.decode(body, content_type)
    if isinstance(value, dict):
        return opened(value, lambda part: convert(codecs.numeric(part)))
    return convert(value)


def predict_fn(data: Any, model: Any) -> Any:
    """``model.predict(data)``, or ``model(data)`` where there is no such method."""
    predict = getattr(model, "predict", model)
    if not callable(predict):
        raise TypeError(
            f"model_fn returned a {type(model).__name__}, which has no predict method and cannot "
            "be called; give the model a predict_fn"
        )
    return predict(data)


def output_fn(prediction: Any, accept: str, default_accept: str) -> tuple[bytes, str]:
    """The prediction in the best type the client accepts."""
    return codecs.encode(prediction, accept, default_accept)
