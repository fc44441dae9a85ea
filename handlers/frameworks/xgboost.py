"""XGBoost: boosters in its own formats, and pickles of boosters and estimators."""

from __future__ import annotations

import re
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from handlers.data import tables
from handlers.data.codecs import decode_text
from handlers.data.envelopes import Rows
from handlers.data.media_types import CSV, parse
from handlers.directory.artifacts import Contents
from handlers.directory.recognition import PICKLES, is_pickle_of, pick_recognised
from handlers.errors import InvalidInput, ModelLoadError
from handlers.frameworks import python, sklearn
from handlers.frameworks.parts import thread_pools
from handlers.frameworks.parts.pickles import load_pickle
from handlers.types import ModelPlan, Resources

NAME = "xgboost"
MODULES: tuple[str, ...] = ("xgboost",)
EXTENSIONS: tuple[str, ...] = (".ubj", ".bst", ".xgb")
PINS: tuple[str, ...] = ()
resident_bytes = 160 << 20

# What SageMaker's own algorithm calls its model; a pickle in old versions of it.
ALGORITHM_NAME = "xgboost-model"
# Endings that others use, too: these count only when the file begins like a model.
SHARED = (".json", ".model", *PICKLES)

_JSON = re.compile(rb'\s*\{\s*"(learner"\s*:\s*\{|version"\s*:\s*\[[^{]*"learner"\s*:\s*\{)')
_UBJSON = re.compile(rb"\{(L.{8}|[iUIl].{1,4})(learner|version|Config|Model)", re.DOTALL)

LIBSVM = frozenset({"text/libsvm", "text/x-libsvm"})


def installed() -> bool:
    """Whether XGBoost can be imported."""
    return find_spec("xgboost") is not None


def find_artifact(contents: Contents) -> str | None:
    """The model in a format of XGBoost's, or the pickle that needs it."""
    if ALGORITHM_NAME in contents.files:
        return ALGORITHM_NAME
    return pick_recognised(contents, (*EXTENSIONS, *SHARED), lambda name: _is_model(contents, name))


def _is_model(contents: Contents, name: str) -> bool:
    if name.lower().endswith(EXTENSIONS):
        return True
    start = contents.start_of(name)
    return _is_saved(start) or is_pickle_of(contents, name, frozenset(MODULES))


def _is_saved(start: bytes) -> bool:
    """Whether a file that begins so was written by ``save_model``."""
    return _JSON.match(start) is not None or _UBJSON.match(start) is not None


def preload() -> None:
    """Train, save, load and ask a tiny model, on one thread."""
    sklearn.preload()
    import numpy as np
    import xgboost

    thread_pools.limit(1)
    data = np.array([[0.0], [1.0], [2.0], [3.0]])
    matrix = xgboost.DMatrix(data, [0, 0, 1, 1], nthread=1)
    trained = xgboost.train({"nthread": 1, "max_depth": 1}, matrix, 1)
    predict_fn(data, _booster(bytes(trained.save_raw("ubj")), 1))


def after_fork(threads: int) -> None:
    """Let OpenMP have this many threads, which XGBoost never exceeds, and fresh random state."""
    sklearn.after_fork(threads)


def load(plan: ModelPlan, resources: Resources) -> Any:
    """A Booster, or what a pickle holds."""
    if not installed():
        raise ModelLoadError(f"{plan.artifact} needs XGBoost, which is missing.")
    thread_pools.limit(resources.threads)
    path = Path(plan.model_dir, plan.artifact or "")
    with path.open("rb") as file:
        start = file.read(4096)
    if not _is_saved(start) and _is_pickle(path, start):
        return _limited(load_pickle(path), resources.threads)
    if not _is_saved(start):
        raise ModelLoadError(_unreadable(path, start))
    return _read(path, resources.threads)


def _is_pickle(path: Path, start: bytes) -> bool:
    return start[:1] == b"\x80" or path.suffix.lower() in PICKLES


def _unreadable(path: Path, start: bytes) -> str:
    import xgboost

    if not start:
        return f"{path.name} is empty."
    return (
        f"{path.name} is neither JSON, UBJSON nor a pickle, which is all that XGBoost "
        f"{xgboost.__version__} reads. The binary format of versions before 3.1 is gone: load it "
        "with the version that wrote it and save it again as model.ubj."
    )


def _read(path: Path, threads: int) -> Any:
    import xgboost

    content = path.read_bytes()
    if not content.rstrip().endswith(b"}"):  # XGBoost would read on behind the end, and crash
        raise ModelLoadError(f"{path.name} is not complete. Save it again, or copy it again.")
    try:
        return _booster(content, threads)
    except xgboost.core.XGBoostError as error:
        raise ModelLoadError(
            f"XGBoost {xgboost.__version__} cannot read {path.name}: {tables.first_line(error)} "
            "The file is damaged, or was written by a version that is not compatible."
        ) from error


def _booster(content: bytes, threads: int) -> Any:
    """From bytes: of a path XGBoost believes the ending, and warns when it knows none."""
    import xgboost

    booster = xgboost.Booster({"nthread": threads})
    booster.load_model(bytearray(content))
    return booster


def _limited(model: Any, threads: int) -> Any:
    """A pickled model with our number of threads in place of what it was trained with."""
    import xgboost

    if isinstance(model, xgboost.Booster):
        model.set_param({"nthread": threads})
        return model
    steps = model.get_params(deep=True).values() if hasattr(model, "get_params") else ()
    for part in (model, *steps):
        if isinstance(part, xgboost.XGBModel):
            part.set_params(n_jobs=threads)
            if part.__sklearn_is_fitted__():
                part.get_booster().set_param({"nthread": threads})
    return model


def input_fn(body: bytes, content_type: str) -> Any:
    """An array where the body is numeric, a sparse matrix from libsvm.

    An author's own predict_fn gets what SageMaker's container gives it: a DMatrix.
    """
    media_type = parse(content_type)
    if media_type.essence in LIBSVM:
        return Rows(_sparse(decode_text(body, media_type.charset)), _matrix)
    data = sklearn.input_fn(body, content_type)
    return Rows(data, _matrix) if media_type.essence == CSV else data


def _matrix(rows: Any) -> Any:
    import xgboost

    return xgboost.DMatrix(rows, nthread=thread_pools.allowed())


def _sparse(text: str) -> Any:
    """``[label] index:value ...`` a line; indices count from 0, what is left out is missing."""
    from scipy.sparse import csr_matrix

    values: list[float] = []
    columns: list[int] = []
    ends = [0]
    for number, line in enumerate(text.splitlines(), 1):
        cells = line.partition("#")[0].split()
        if not cells:
            continue
        pairs = cells if ":" in cells[0] else cells[1:]
        columns += [_cell(pair, number)[0] for pair in pairs]
        values += [_cell(pair, number)[1] for pair in pairs]
        ends.append(len(values))
    if len(ends) == 1:
        raise InvalidInput("The body is empty; send one row a line.")
    return csr_matrix((values, columns, ends), (len(ends) - 1, max(columns, default=0) + 1))


def _cell(pair: str, line: int) -> tuple[int, float]:
    index, _, value = pair.rpartition(":")
    if index.isdecimal() and len(index) <= 9:
        try:
            return int(index), float(value)
        except ValueError:
            pass
    raise InvalidInput(f"libsvm line {line} has {pair[:40]!r}, which is not index:value.")


def predict_fn(data: Any, model: Any) -> Any:
    """The booster's or the estimator's predictions."""
    import xgboost

    if not isinstance(model, xgboost.Booster):
        return sklearn.predict_fn(_widened(data, getattr(model, "n_features_in_", None)), model)
    expected = model.num_features()
    rows = tables.rows_of(_widened(data, expected), model.feature_names, expected)
    with tables.blamed_on_input(ValueError, TypeError):  # XGBoost's own error is a ValueError
        matrix = xgboost.DMatrix(
            rows,
            feature_names=model.feature_names,
            feature_types=model.feature_types,
            nthread=thread_pools.allowed(),
        )
        return model.predict(matrix, iteration_range=_rounds(model))


def _rounds(model: Any) -> tuple[int, int]:
    """Those up to the best when training stopped early, as XGBoost's estimators do; else all."""
    best = model.attr("best_iteration")
    return (0, int(best) + 1) if best is not None else (0, 0)


def _widened(data: Any, expected: int | None) -> Any:
    """A sparse matrix that ends with its last value, with the columns that the model has."""
    if expected and hasattr(data, "tocsr") and data.shape[1] < expected:
        data.resize((data.shape[0], expected))
    return data


def output_fn(prediction: Any, accept: str, default_accept: str) -> tuple[bytes, str]:
    """The predictions in the best type the client accepts."""
    return python.output_fn(prediction, accept, default_accept)
