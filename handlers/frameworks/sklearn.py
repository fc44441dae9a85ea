"""scikit-learn: estimators and pipelines saved with joblib or pickle."""

from __future__ import annotations

import io
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from handlers.artifacts import Contents, pick
from handlers.errors import ModelLoadError
from handlers.frameworks import python
from handlers.types import ModelPlan, Resources

NAME = "sklearn"
MODULES: tuple[str, ...] = ("sklearn", "joblib")
EXTENSIONS: tuple[str, ...] = (".joblib", ".pkl", ".pickle")
PINS: tuple[str, ...] = ()
resident_bytes = 125 << 20

PICKLE_START = b"\x80"  # protocol 2 and later; anything else is compressed, or older


def installed() -> bool:
    """Whether scikit-learn and joblib can be imported."""
    return find_spec("sklearn") is not None and find_spec("joblib") is not None


def find_artifact(contents: Contents) -> str | None:
    """The joblib or pickle file that is the model."""
    return pick(contents.files, EXTENSIONS)


def preload() -> None:
    """Fit, save, load and ask a tiny model of each common kind, on one thread."""
    python.preload()
    import joblib
    import numpy as np
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    from sklearn.tree import DecisionTreeClassifier

    data, labels = np.array([[0.0], [1.0], [2.0], [3.0]]), np.array([0, 0, 1, 1])
    with _thread_pools().limit(limits=1):
        for model in (LogisticRegression(), DecisionTreeClassifier()):
            stream = io.BytesIO()
            joblib.dump(make_pipeline(StandardScaler(), model).fit(data, labels), stream)
            stream.seek(0)
            joblib.load(stream).predict(data)


def after_fork(threads: int) -> None:
    """Give BLAS and OpenMP this many threads, and fresh random state."""
    python.after_fork(threads)
    _thread_pools().limit(limits=threads)


@cache
def _thread_pools() -> Any:
    """The BLAS and OpenMP libraries in use. Looking for them takes 3 ms: once, in preload."""
    from threadpoolctl import ThreadpoolController  # type: ignore[import-untyped]

    return ThreadpoolController()


def load(plan: ModelPlan, resources: Resources) -> Any:
    """The estimator; its large arrays are mapped, so that copies of the model share them."""
    if not installed():
        raise ModelLoadError(f"{plan.artifact} needs scikit-learn and joblib, which are missing.")
    import joblib

    path = Path(plan.model_dir, plan.artifact or "")
    with path.open("rb") as file:
        mappable = file.read(1) == PICKLE_START
    return joblib.load(path, mmap_mode="r" if mappable else None)


def input_fn(body: bytes, content_type: str) -> Any:
    """An array where the body is numeric."""
    return python.input_fn(body, content_type)


def predict_fn(data: Any, model: Any) -> Any:
    """``model.predict(data)``."""
    return python.predict_fn(data, model)


def output_fn(prediction: Any, accept: str, default_accept: str) -> tuple[bytes, str]:
    """The predictions in the best type the client accepts."""
    return python.output_fn(prediction, accept, default_accept)
