from __future__ import annotations

import json
import pickle
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightgbm as lgb
import numpy as np
import pytest
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from handlers.directory.artifacts import Contents
from handlers.errors import InvalidInput, ModelLoadError
from handlers.frameworks import lightgbm
from handlers.types import Interface, ModelPlan, Request, Resources, Response, Service

Load = Callable[..., Service]
Ask = Callable[..., Request]

ROWS = np.array([[0.0, 1.0], [1.0, 1.0], [2.0, 0.0], [3.0, 0.0]])
VALUES = np.array([0.0, 0.0, 8.0, 8.0])
SETTINGS = {
    "num_threads": 1,
    "verbose": -1,
    "learning_rate": 1.0,
    "boost_from_average": False,
    "min_data_in_leaf": 1,
    "min_data_in_bin": 1,
    "min_sum_hessian_in_leaf": 0.0,
}


def booster(names: Any = "auto") -> lgb.Booster:
    quiet = {"verbose": -1, "min_data_in_bin": 1}
    return lgb.train(SETTINGS, lgb.Dataset(ROWS, VALUES, feature_name=names, params=quiet), 1)


def values(response: Response) -> Any:
    """The numbers of a JSON or CSV answer, without LightGBM's last digits."""
    cells = re.findall(r"[-\d.e]*\d", response.body.decode())
    return [round(float(cell), 6) for cell in cells]


def text() -> bytes:
    return booster().model_to_string().encode()


@pytest.mark.parametrize("name", ["model.txt", "a.lgb", "booster.txt", "a.model"])
def test_a_saved_booster_is_served_as_it_is(load: Load, ask: Ask, name: str) -> None:
    service = load({name: text(), "requirements.txt": "lightgbm\n", "notes.txt": "tree\n"})
    assert values(service.invoke(ask("[[0, 1], [3, 0]]"))) == [0, 8]
    assert values(service.invoke(ask("0,1\n3,0\n", "text/csv", "text/csv"))) == [0, 8]
    wrapped = service.invoke(ask('{"instances": [[3, 0]]}'))
    assert list(json.loads(wrapped.body)) == ["predictions"] and values(wrapped) == [8]
    assert service.invoke(ask("[[null, 1], [3, null]]")).status == 200


@pytest.mark.parametrize("protocol", [2, pickle.HIGHEST_PROTOCOL])
def test_a_pickled_booster_is_served_as_it_is(load: Load, ask: Ask, protocol: int) -> None:
    service = load({"booster.pkl": pickle.dumps(booster(), protocol)})
    assert values(service.invoke(ask("[[0, 1], [3, 0]]"))) == [0, 8]


@pytest.mark.parametrize(
    "wrap", [lambda model: model, lambda m: make_pipeline(StandardScaler(), m)]
)
def test_an_estimator_gives_classes(load: Load, ask: Ask, wrap: Callable[[Any], Any]) -> None:
    settings: dict[str, Any] = {
        "min_child_samples": 1,
        "min_child_weight": 0.0,
        "min_data_in_bin": 1,
    }
    model = wrap(lgb.LGBMClassifier(n_estimators=9, n_jobs=1, verbose=-1, **settings))
    model.fit(ROWS, np.array(["no", "no", "yes", "yes"]))
    service = load({"model.pkl": pickle.dumps(model)})
    assert service.invoke(ask("[[0, 1], [3, 0]]")).body == b'["no", "yes"]'


def test_rows_may_name_their_columns(load: Load, ask: Ask) -> None:
    service = load({"model.txt": booster(["age", "paid"]).model_to_string()})
    assert values(service.invoke(ask('[{"paid": 0, "age": 3}]'))) == [8]
    with pytest.raises(InvalidInput, match="lacks paid"):
        service.invoke(ask('[{"age": 3}]'))


def test_the_wrong_number_of_features_is_400(load: Load, ask: Ask) -> None:
    with pytest.raises(InvalidInput, match="rows have 3 values; the model takes 2"):
        load({"model.txt": text()}).invoke(ask("[[1, 2, 3]]"))


def test_an_estimator_does_not_take_all_cores(tmp_path: Path) -> None:
    model = make_pipeline(lgb.LGBMRegressor(n_jobs=-1, verbose=-1)).fit(ROWS, VALUES)
    (tmp_path / "model.pkl").write_bytes(pickle.dumps(model))
    plan = ModelPlan(str(tmp_path), "lightgbm", Interface.DEFAULT, artifact="model.pkl")
    assert lightgbm.load(plan, Resources(threads=2))[-1].n_jobs == 2
    lightgbm.after_fork(1)


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("model.lgb", b"", "does not begin with"),
        ("model.lgb", b"garbage", "does not begin with"),
        ("model.txt", text()[:500], "not complete"),
        ("model.txt", b"tree\nversion=v4\nend of trees\n", "cannot read model.txt"),
        ("model.pkl", pickle.dumps(booster())[:-200], "while loading model.pkl"),
    ],
)
def test_a_broken_file_fails_the_load(load: Load, name: str, content: bytes, reason: str) -> None:
    with pytest.raises(ModelLoadError, match=reason):
        load({name: content})


def test_text_that_is_no_model_is_never_taken_for_one(tmp_path: Path) -> None:
    (tmp_path / "model.txt").write_text("trees are green\n")
    (tmp_path / "requirements.txt").write_text("tree\n")
    contents = Contents(tmp_path, ("model.txt", "requirements.txt"))
    assert lightgbm.find_artifact(contents) is None


def test_a_batch_is_one_prediction(load: Load, ask: Ask, caplog: pytest.LogCaptureFixture) -> None:
    service = load({"model.txt": text()})
    requests = [ask("[[0, 1], [3, 0]]"), ask("3,0\n", "text/csv"), ask('{"instances": [[0, 1]]}')]
    alone = [service.invoke(request).body for request in requests]
    assert service.takes_batches
    answers = service.invoke_batch(requests)
    assert [answer.body for answer in answers if isinstance(answer, Response)] == alone
    assert not caplog.text, "what cannot be stacked is logged"
