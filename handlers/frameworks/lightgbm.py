"""LightGBM: boosters in its text format, and pickles of boosters and estimators."""

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

NAME = "lightgbm"
MODULES: tuple[str, ...] = ("lightgbm",)
EXTENSIONS: tuple[str, ...] = (".lgb",)
PINS: tuple[str, ...] = ()
resident_bytes = 160 << 20

# Endings that others use, too: these count only when the file begins like a model.
SHARED = (".txt", ".model", *PICKLES)

_TEXT = re.compile(rb"tree\r?\nversion=")
TREES_END = b"end of trees"


def installed() -> bool:
    """Whether LightGBM can be imported."""
    return find_spec("lightgbm") is not None


def find_artifact(contents: Contents) -> str | None:
    """The model in LightGBM's text format, or the pickle that needs it."""
    return pick_recognised(contents, (*EXTENSIONS, *SHARED), lambda name: _is_model(contents, name))


def _is_model(contents: Contents, name: str) -> bool:
    if name.lower().endswith(EXTENSIONS) or _TEXT.match(contents.start_of(name)):
        return True
    return is_pickle_of(contents, name, frozenset(MODULES))


def preload() -> None:
    """Train, save, load and ask a tiny model, on one thread."""
    sklearn.preload()
    import lightgbm
    import numpy as np

    thread_pools.limit(1)
    data = np.array([[0.0], [1.0], [2.0], [3.0]])
    quiet = {"num_threads": 1, "verbose": -1}
    rows = lightgbm.Dataset(data, [0, 0, 1, 1], params=quiet)
    trained = lightgbm.train({**quiet, "min_data_in_leaf": 1}, rows, 1)
    predict_fn(data, lightgbm.Booster(model_str=trained.model_to_string()))


def after_fork(threads: int) -> None:
    """Give OpenMP this many threads, and fresh random state."""
    sklearn.after_fork(threads)


def load(plan: ModelPlan, resources: Resources) -> Any:
    """A Booster, or what a pickle holds."""
    if not installed():
        raise ModelLoadError(f"{plan.artifact} needs LightGBM, which is missing.")
    thread_pools.limit(resources.threads)
    path = Path(plan.model_dir, plan.artifact or "")
    with path.open("rb") as file:
        start = file.read(64)
    if _TEXT.match(start):
        return _read(path)
    if path.suffix.lower() not in PICKLES and start[:1] != b"\x80":
        raise ModelLoadError(
            f"{path.name} is no model that LightGBM's save_model wrote: it does not begin with "
            '"tree" and a version.'
        )
    return _limited(load_pickle(path), resources.threads)


def _read(path: Path) -> Any:
    import lightgbm

    text = path.read_bytes()
    if TREES_END not in text:  # LightGBM would end the process
        raise ModelLoadError(
            f'{path.name} is not complete: "{TREES_END.decode()}" is missing. Save it again, or '
            "copy it again."
        )
    try:
        return lightgbm.Booster(model_str=text.decode(errors="surrogateescape"))
    except lightgbm.basic.LightGBMError as error:
        raise ModelLoadError(
            f"LightGBM {lightgbm.__version__} cannot read {path.name}: {tables.first_line(error)}"
        ) from error


def _limited(model: Any, threads: int) -> Any:
    """A pickled model with our number of threads in place of all cores, which it would take."""
    import lightgbm

    steps = model.get_params(deep=True).values() if hasattr(model, "get_params") else ()
    for part in (model, *steps):
        if isinstance(part, lightgbm.LGBMModel):
            part.set_params(n_jobs=threads)
    return model


def input_fn(body: bytes, content_type: str) -> Any:
    """An array where the body is numeric; ``null`` is NaN."""
    return sklearn.input_fn(body, content_type)


def predict_fn(data: Any, model: Any) -> Any:
    """The booster's or the estimator's predictions."""
    import lightgbm

    if isinstance(model, lightgbm.LGBMModel):
        names = model.feature_name_
        rows = tables.rows_of(data, names, len(names))
        if tables.is_array(rows) and tables.has_pandas():
            rows = tables.frame(rows, names)  # only to spare the log a warning with each request
    elif isinstance(model, lightgbm.Booster):
        rows = tables.rows_of(data, model.feature_name(), model.num_feature())
    else:
        return sklearn.predict_fn(data, model)
    with tables.blamed_on_input(lightgbm.basic.LightGBMError, ValueError, TypeError):
        return model.predict(rows, num_threads=thread_pools.allowed())


def output_fn(prediction: Any, accept: str, default_accept: str) -> tuple[bytes, str]:
    """The predictions in the best type the client accepts."""
    return python.output_fn(prediction, accept, default_accept)
