from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import catboost as cb
import pytest

from handlers.directory.artifacts import Contents
from handlers.errors import InvalidInput, ModelLoadError
from handlers.frameworks import catboost
from handlers.types import Request, Response, Service

Load = Callable[..., Service]
Ask = Callable[..., Request]

ROWS = [[0.0, 1.0], [1.0, 1.0], [2.0, 0.0], [3.0, 0.0]] * 5
QUIET: dict[str, Any] = {
    "verbose": 0,
    "allow_writing_files": False,
    "thread_count": 1,
    "iterations": 20,
    "learning_rate": 0.5,
    "depth": 2,
    "random_seed": 0,
}


@cache
def classifier(*classes: str) -> cb.CatBoostClassifier:
    return cb.CatBoostClassifier(**QUIET).fit(ROWS, list(classes) * 5)


@cache
def regressor() -> cb.CatBoostRegressor:
    return cb.CatBoostRegressor(**QUIET).fit(ROWS, [0.0, 0.0, 8.0, 8.0] * 5)


def saved(model: Any, folder: Path, kind: str = "cbm") -> bytes:
    model.save_model(str(folder / "saved"), format=kind)
    return (folder / "saved").read_bytes()


@pytest.mark.parametrize("name", ["model.cbm", "a.cbm", "model.json", "trees.json"])
def test_a_saved_classifier_gives_classes(load: Load, ask: Ask, tmp_path: Path, name: str) -> None:
    kind = Path(name).suffix[1:]
    service = load({name: saved(classifier("no", "no", "yes", "yes"), tmp_path, kind)})
    assert service.invoke(ask("[[0, 1], [3, 0]]")).body == b'["no", "yes"]'
    assert service.invoke(ask("0,1\n", "text/csv", "text/csv")).body == b"no\n"
    assert service.invoke(ask('{"instances": [[3, 0]]}')).body == b'{"predictions": ["yes"]}'
    assert service.invoke(ask("[[null, 1], [3, 0]]")).status == 200


def test_of_many_classes_too_there_is_one_a_row(load: Load, ask: Ask, tmp_path: Path) -> None:
    service = load({"model.cbm": saved(classifier("a", "b", "c", "c"), tmp_path)})
    assert service.invoke(ask("[[0, 1], [3, 0]]")).body == b'["a", "c"]'


def test_a_saved_regressor_gives_values(load: Load, ask: Ask, tmp_path: Path) -> None:
    service = load({"model.cbm": saved(regressor(), tmp_path)})
    low, high = json.loads(service.invoke(ask("[[0, 1], [3, 0]]")).body)
    assert low < 1 and high > 7


def test_a_pickled_estimator_is_served_as_it_is(load: Load, ask: Ask) -> None:
    service = load({"model.pkl": pickle.dumps(classifier("no", "no", "yes", "yes"))})
    assert service.invoke(ask("[[0, 1], [3, 0]]")).body == b'["no", "yes"]'


def test_categories_are_text_and_rows_may_name_their_columns(
    load: Load, ask: Ask, tmp_path: Path
) -> None:
    rows = [["red", 1.0], ["red", 0.0], ["blue", 1.0], ["blue", 0.0]] * 5
    pool = cb.Pool(rows, ["x", "x", "y", "y"] * 5, cat_features=[0], feature_names=["col", "n"])
    model = cb.CatBoostClassifier(**QUIET, one_hot_max_size=4).fit(pool)
    service = load({"model.cbm": saved(model, tmp_path)})
    assert service.invoke(ask('[["red", 1], ["blue", null]]')).body == b'["x", "y"]'
    assert service.invoke(ask('[{"n": 1, "col": "blue"}]')).body == b'["y"]'
    with pytest.raises(InvalidInput, match="does not take this input"):
        service.invoke(ask("[[1.5, 1.5]]"))


def test_the_wrong_number_of_features_is_400(load: Load, ask: Ask, tmp_path: Path) -> None:
    service = load({"model.cbm": saved(regressor(), tmp_path)})
    with pytest.raises(InvalidInput, match="rows have 3 values; the model takes 2"):
        service.invoke(ask("[[1, 2, 3]]"))


@pytest.mark.parametrize("content", [b"", b"garbage", b"CBM1" + b"\1" * 40])
def test_a_broken_file_fails_the_load(load: Load, content: bytes) -> None:
    with pytest.raises(ModelLoadError, match=r"cannot read model.cbm: .* damaged"):
        load({"model.cbm": content})


def test_a_truncated_file_fails_the_load(load: Load, tmp_path: Path) -> None:
    with pytest.raises(ModelLoadError, match=r"cannot read model\.cbm"):
        load({"model.cbm": saved(regressor(), tmp_path)[:-100]})


def test_json_that_is_no_model_is_never_taken_for_one(tmp_path: Path) -> None:
    (tmp_path / "model.json").write_text('{"features": [1]}')
    assert catboost.find_artifact(Contents(tmp_path, ("model.json",))) is None


def test_a_batch_is_one_prediction(
    load: Load, ask: Ask, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    service = load({"model.cbm": saved(classifier("no", "no", "yes", "yes"), tmp_path)})
    requests = [ask("[[0, 1], [3, 0]]"), ask("3,0\n", "text/csv"), ask('{"instances": [[0, 1]]}')]
    alone = [service.invoke(request).body for request in requests]
    assert service.takes_batches
    answers = service.invoke_batch(requests)
    assert [answer.body for answer in answers if isinstance(answer, Response)] == alone
    assert not caplog.text, "what cannot be stacked is logged"
