"""scikit-learn: estimators and pipelines saved with joblib, pickle or skops."""

from __future__ import annotations

import io
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from handlers.data import tables
from handlers.directory.artifacts import Contents
from handlers.directory.recognition import PICKLES, is_pickle_of, pick_recognised
from handlers.errors import InvalidInput, ModelLoadError
from handlers.frameworks import python
from handlers.frameworks.parts import thread_pools
from handlers.frameworks.parts.pickles import load_pickle
from handlers.optional_packages import usable
from handlers.types import ModelPlan, Resources

NAME = "sklearn"
MODULES: tuple[str, ...] = ("sklearn", "joblib", "skops")
EXTENSIONS: tuple[str, ...] = (*PICKLES, ".skops")
PINS: tuple[str, ...] = ()
resident_bytes = 150 << 20

SKOPS = ".skops"

# Packages with estimators of their own: their pickles are served by their own frameworks.
OTHERS = frozenset({"xgboost", "lightgbm", "catboost"})


def installed() -> bool:
    """Whether scikit-learn and joblib can be imported."""
    return find_spec("sklearn") is not None and find_spec("joblib") is not None


def find_artifact(contents: Contents) -> str | None:
    """The joblib, pickle or skops file that is the model."""
    return pick_recognised(
        contents, EXTENSIONS, lambda name: not is_pickle_of(contents, name, OTHERS)
    )


def preload() -> None:
    """Fit, save, load and ask a tiny model of each common kind, on one thread."""
    python.preload()
    import joblib
    import numpy as np
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    from sklearn.tree import DecisionTreeClassifier

    data, labels = np.array([[0.0], [1.0], [2.0], [3.0]]), np.array([0, 0, 1, 1])
    thread_pools.limit(1)
    forest = RandomForestClassifier(n_estimators=1)
    for model in (LogisticRegression(), DecisionTreeClassifier(), forest):
        stream = io.BytesIO()
        joblib.dump(make_pipeline(StandardScaler(), model).fit(data, labels), stream)
        stream.seek(0)
        predict_fn(data, joblib.load(stream))
    if tables.has_pandas():
        named = LogisticRegression().fit(tables.frame(data, ["x"]), labels)
        predict_fn([{"x": 1.0}], named)


def after_fork(threads: int) -> None:
    """Give BLAS and OpenMP this many threads, and fresh random state."""
    python.after_fork(threads)
    thread_pools.limit(threads)


def load(plan: ModelPlan, resources: Resources) -> Any:
    """The estimator; its large arrays are mapped, so that copies of the model share them."""
    if not installed():
        raise ModelLoadError(f"{plan.artifact} needs scikit-learn and joblib, which are missing.")
    path = Path(plan.model_dir, plan.artifact or "")
    model = _load_skops(path) if path.suffix.lower() == SKOPS else load_pickle(path)
    thread_pools.limit(resources.threads)  # the model may have brought libraries with pools
    return model


def _load_skops(path: Path) -> Any:
    """A skops file, unless it holds types that skops does not know to be harmless."""
    if not usable("skops"):
        raise ModelLoadError(
            f"{path.name} needs skops, which is missing here, or does not go together with the "
            "model's other packages: pip install skops."
        )
    from skops import io as skops

    untrusted = skops.get_untrusted_types(file=path)
    if untrusted:
        raise ModelLoadError(
            f"{path.name} holds types that skops does not trust: {', '.join(sorted(untrusted))}. "
            "If you trust them, load the file in a model_fn of your own, "
            f"skops.io.load(path, trusted={sorted(untrusted)!r}), or save the model with joblib."
        )
    return skops.load(path)


def input_fn(body: bytes, content_type: str) -> Any:
    """An array where the body is numeric; ``null`` is NaN."""
    return python.input_fn(body, content_type, tables.with_nan)


def predict_fn(data: Any, model: Any) -> Any:
    """``model.predict(data)``, with columns by name for a model that was fitted with names."""
    rows = rows_for(model, data)
    try:
        return python.predict_fn(rows, model)
    except ValueError as error:
        if "could not convert string to float" in str(error):
            tables.check_numbers(data.tolist() if hasattr(data, "tolist") else data)
        raise


def rows_for(model: Any, data: Any) -> Any:
    """The rows as an estimator takes them. Raises ``InvalidInput``."""
    found = getattr(model, "feature_names_in_", None)
    names = None if found is None else [str(name) for name in found]
    rows = tables.rows_of(data, names, getattr(model, "n_features_in_", None))
    if names is None or not tables.is_array(rows):
        return rows
    if tables.has_pandas():
        return tables.frame(rows, names)
    if not tables.is_array(data):
        raise InvalidInput(
            "Rows with names reach this model through pandas, which is not here, or does not go "
            "together with the model's other packages. Name one that does in "
            "code/requirements.txt, or send each row as a list of values."
        )
    return rows


def output_fn(prediction: Any, accept: str, default_accept: str) -> tuple[bytes, str]:
    """The predictions in the best type the client accepts."""
    return python.output_fn(prediction, accept, default_accept)
