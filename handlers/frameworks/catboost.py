"""CatBoost: models in its binary and JSON formats, and pickles of its estimators."""

from __future__ import annotations

import re
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from handlers.data import tables
from handlers.directory.artifacts import Contents
from handlers.directory.recognition import PICKLES, is_pickle_of, pick_recognised
from handlers.errors import ModelLoadError
from handlers.frameworks import python, sklearn
from handlers.frameworks.parts import thread_pools
from handlers.frameworks.parts.pickles import load_pickle
from handlers.types import ModelPlan, Resources

NAME = "catboost"
MODULES: tuple[str, ...] = ("catboost",)
EXTENSIONS: tuple[str, ...] = (".cbm",)
PINS: tuple[str, ...] = ()
resident_bytes = 100 << 20

JSON_ENDING = ".json"

_JSON = re.compile(rb'\s*\{\s*"(ctr_data|features_info|oblivious_trees)"\s*:\s*[{\[]')


def installed() -> bool:
    """Whether CatBoost can be imported."""
    return find_spec("catboost") is not None


def find_artifact(contents: Contents) -> str | None:
    """The model in a format of CatBoost's, or the pickle that needs it."""
    return pick_recognised(
        contents, (*EXTENSIONS, JSON_ENDING, *PICKLES), lambda name: _is_model(contents, name)
    )


def _is_model(contents: Contents, name: str) -> bool:
    if name.lower().endswith(EXTENSIONS):
        return True
    if name.lower().endswith(JSON_ENDING):
        return _JSON.match(contents.start_of(name)) is not None
    return is_pickle_of(contents, name, frozenset(MODULES))


def preload() -> None:
    """Import it, and no more: even on one thread CatBoost starts a pool, which forks would lack."""
    python.preload()
    import catboost  # noqa: F401


def after_fork(threads: int) -> None:
    """Remember the number of threads, and make fresh random state."""
    python.after_fork(threads)
    thread_pools.limit(threads)


def load(plan: ModelPlan, resources: Resources) -> Any:
    """A classifier, or a model of another kind, as it was trained; or what a pickle holds."""
    if not installed():
        raise ModelLoadError(f"{plan.artifact} needs CatBoost, which is missing.")
    thread_pools.limit(resources.threads)
    path = Path(plan.model_dir, plan.artifact or "")
    if path.suffix.lower() in PICKLES:
        return load_pickle(path)
    import catboost

    kind = "json" if path.suffix.lower() == JSON_ENDING else "cbm"
    try:
        model = catboost.CatBoost().load_model(str(path), format=kind)
        if not len(model.classes_):
            return model
        return catboost.CatBoostClassifier().load_model(str(path), format=kind)
    except catboost.CatBoostError as error:
        raise ModelLoadError(
            f"CatBoost {catboost.__version__} cannot read {path.name}: {tables.first_line(error)} "
            "The file is damaged, or was written by a newer version."
        ) from error


def input_fn(body: bytes, content_type: str) -> Any:
    """An array where the body is numeric; ``null`` is NaN."""
    return python.input_fn(body, content_type, tables.with_nan)


def predict_fn(data: Any, model: Any) -> Any:
    """Classes from a classifier, values from other models, one a row."""
    import catboost

    if not isinstance(model, catboost.CatBoost):
        return sklearn.predict_fn(data, model)
    names = model.feature_names_
    rows = tables.rows_of(data, names, len(names))
    with tables.blamed_on_input(catboost.CatBoostError):
        prediction = model.predict(rows, thread_count=thread_pools.allowed())
    one_column = prediction.ndim == 2 and prediction.shape[1] == 1  # classes, if there are many
    return prediction[:, 0] if one_column else prediction


def output_fn(prediction: Any, accept: str, default_accept: str) -> tuple[bytes, str]:
    """The predictions in the best type the client accepts."""
    return python.output_fn(prediction, accept, default_accept)
