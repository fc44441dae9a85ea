from __future__ import annotations

import io
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pytest
import xgboost as xgb
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from handlers.directory.artifacts import Contents
from handlers.errors import InvalidInput, ModelLoadError
from handlers.frameworks import for_artifact, xgboost
from handlers.inspection import inspect_model
from handlers.service import load_service
from handlers.types import (
    HandlerOptions,
    Interface,
    ModelPlan,
    Request,
    Resources,
    Response,
    Service,
)

Load = Callable[..., Service]
Make = Callable[..., Path]
Ask = Callable[..., Request]

LIBSVM = "text/libsvm"
ROWS = np.array([[0.0, 1.0], [1.0, 1.0], [2.0, 0.0], [3.0, 0.0]])
VALUES = [0.0, 0.0, 8.0, 8.0]
SETTINGS = {"nthread": 1, "eta": 1.0, "lambda": 0.0, "min_child_weight": 0.0, "base_score": 0.0}


def booster(**options: Any) -> xgb.Booster:
    matrix = xgb.DMatrix(ROWS, VALUES, nthread=1, **options)
    return xgb.train(SETTINGS, matrix, 1)


def saved(ending: str, model: Any = None) -> bytes:
    return bytes((booster() if model is None else model).save_raw(ending))


@pytest.mark.parametrize(
    ("name", "ending"),
    [("model.json", "json"), ("booster.json", "json"), ("a.ubj", "ubj"), ("a.bst", "ubj")]
    + [("model.xgb", "json"), ("model.model", "ubj"), ("xgboost-model", "json")]
    + [("xgboost-model", "ubj")],
)
def test_a_saved_booster_is_served_as_it_is(load: Load, ask: Ask, name: str, ending: str) -> None:
    service = load({name: saved(ending), "config.json": '{"learner": 1}', "request.json": "[1]"})
    assert service.invoke(ask("[[0, 1], [3, 0]]")).body == b"[0.0, 8.0]"
    assert service.invoke(ask("0,1\n3,0\n", "text/csv", "text/csv")).body == b"0.0\n8.0\n"
    assert service.invoke(ask('{"instances": [[3, 0]]}')).body == b'{"predictions": [8.0]}'


@pytest.mark.parametrize("name", ["xgboost-model", "model.pkl", "a.joblib", "a.bst"])
@pytest.mark.parametrize("protocol", [2, pickle.HIGHEST_PROTOCOL])
def test_a_pickled_booster_is_served_as_it_is(
    load: Load, ask: Ask, name: str, protocol: int
) -> None:
    service = load({name: pickle.dumps(booster(), protocol)})
    assert service.invoke(ask("[[0, 1], [3, 0]]")).body == b"[0.0, 8.0]"


@pytest.mark.parametrize("compress", [0, 3])
@pytest.mark.parametrize(
    "wrap", [lambda model: model, lambda m: make_pipeline(StandardScaler(), m)]
)
def test_an_estimator_is_served_by_the_framework_that_it_needs(
    make: Make, ask: Ask, options: HandlerOptions, compress: int, wrap: Callable[[Any], Any]
) -> None:
    model = wrap(xgb.XGBClassifier(n_estimators=2, n_jobs=2, min_child_weight=0))
    stream = io.BytesIO()
    joblib.dump(model.fit(ROWS, [0, 0, 1, 1]), stream, compress=compress)
    plan = inspect_model(make({"model.joblib": stream.getvalue()}), options)
    assert plan.framework == "xgboost"
    service = load_service(plan, model_name="m", options=options)
    assert service.invoke(ask("[[0, 1], [3, 0]]")).body == b"[0, 1]"


def test_null_and_an_empty_cell_are_missing_values(load: Load, ask: Ask) -> None:
    missing = np.array([[np.nan, 1.0], [np.nan, 0.0], [2.0, 0.0], [3.0, 0.0]])
    model = xgb.train(SETTINGS, xgb.DMatrix(missing, VALUES, nthread=1), 1)
    service = load({"model.ubj": saved("ubj", model)})
    assert service.invoke(ask("[[null, 1], [3, 0]]")).body == b"[0.0, 8.0]"
    assert service.invoke(ask('{"instances": [[null, 1]]}')).body == b'{"predictions": [0.0]}'
    assert service.invoke(ask(",1\n", "text/csv")).body == b"[0.0]"


@pytest.mark.parametrize("content_type", ["text/libsvm", "text/x-libsvm; charset=utf-8"])
def test_libsvm_has_labels_or_none_and_leaves_missing_values_out(
    load: Load, ask: Ask, content_type: str
) -> None:
    service = load({"model.ubj": saved("ubj")})
    body = "0 0:0 1:1\n0:3 1:0  # a comment\n\n1 0:3\n"
    assert service.invoke(ask(body, content_type)).body == b"[0.0, 8.0, 8.0]"


@pytest.mark.parametrize(
    ("body", "reason"),
    [("", "empty"), ("1 a:1", "line 1 has 'a:1'"), ("1 0:x", "'0:x'"), ("1 2:1", "3 values")],
)
def test_libsvm_that_cannot_be_read_is_400(load: Load, ask: Ask, body: str, reason: str) -> None:
    service = load({"model.ubj": saved("ubj")})
    with pytest.raises(InvalidInput, match=reason):
        service.invoke(ask(body, "text/libsvm"))


def test_rows_may_name_their_columns(load: Load, ask: Ask) -> None:
    service = load({"model.json": saved("json", booster(feature_names=["age", "paid"]))})
    assert service.invoke(ask("[[3, 0]]")).body == b"[8.0]"
    assert service.invoke(ask('[{"paid": 0, "age": 3}]')).body == b"[8.0]"
    columns = '{"inputs": {"paid": [1, 0], "age": [0, 3]}}'
    assert service.invoke(ask(columns)).body == b'{"outputs": [0.0, 8.0]}'
    with pytest.raises(InvalidInput, match=r"Row 1 lacks paid and has pais, which the model"):
        service.invoke(ask('[{"pais": 0, "age": 3}]'))


def test_the_wrong_number_of_features_is_400(load: Load, ask: Ask) -> None:
    service = load({"model.ubj": saved("ubj")})
    with pytest.raises(InvalidInput, match="rows have 3 values; the model takes 2"):
        service.invoke(ask("[[1, 2, 3]]"))
    with pytest.raises(InvalidInput, match="does not take this input"):
        service.invoke(ask('[["a", "b"]]'))


def test_training_that_stopped_early_predicts_with_its_best_round(load: Load, ask: Ask) -> None:
    model = xgb.train(SETTINGS, xgb.DMatrix(ROWS, VALUES, nthread=1), 3)
    model.set_attr(best_iteration="0")
    best = model.predict(xgb.DMatrix(ROWS[:1], nthread=1), iteration_range=(0, 1))
    service = load({"model.ubj": saved("ubj", model)})
    assert service.invoke(ask("[[0, 1]]")).body.decode() == str(best.tolist())


@pytest.mark.parametrize("as_estimator", [False, True])
def test_threads_are_the_models_own_number(tmp_path: Path, as_estimator: bool) -> None:
    model = xgb.XGBRegressor(n_jobs=7).fit(ROWS, VALUES) if as_estimator else booster()
    (tmp_path / "model.pkl").write_bytes(pickle.dumps(model))
    plan = ModelPlan(str(tmp_path), "xgboost", Interface.DEFAULT, artifact="model.pkl")
    loaded = xgboost.load(plan, Resources(threads=2))
    config = (loaded.get_booster() if as_estimator else loaded).save_config()
    assert '"nthread":"2"' in config
    xgboost.after_fork(1)


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("model.ubj", b"", "is empty"),
        ("model.ubj", saved("ubj")[:-30], "model.ubj is not complete"),
        ("model.json", saved("json")[:-30], "model.json is not complete"),
        ("model.json", saved("json")[:-30] + b"}", "cannot read model.json: .* damaged"),
        ("a.bst", b"\0\0\0?" * 100, "binary format of versions before 3.1 is gone"),
        ("xgboost-model", b"binf" * 100, "save it again as model.ubj"),
        ("model.pkl", pickle.dumps(booster())[:-200], "while loading model.pkl"),
    ],
)
def test_a_broken_file_fails_the_load(load: Load, name: str, content: bytes, reason: str) -> None:
    with pytest.raises(ModelLoadError, match=reason) as caught:
        load({name: content})
    assert "bt]" not in caught.value.message, "a native stack trace is nothing for a client"


@pytest.mark.parametrize(
    "content", ['{"a": 1}', '{"learner": 3}', "[]", "", '{"nodes": []}', '{"version": "1"}', "{"]
)
def test_json_that_is_no_model_is_never_taken_for_one(tmp_path: Path, content: str) -> None:
    for name in ("model.json", "config.json"):
        (tmp_path / name).write_text(content)
    contents = Contents(tmp_path, ("config.json", "model.json"))
    assert xgboost.find_artifact(contents) is None
    assert for_artifact(contents) is None


def test_a_batch_is_one_prediction(load: Load, ask: Ask, caplog: pytest.LogCaptureFixture) -> None:
    service = load({"model.ubj": saved("ubj")})
    requests = [ask("[[0, 1], [3, 0]]"), ask("3,0\n", "text/csv"), ask('{"instances": [[0, 1]]}')]
    alone = [service.invoke(request).body for request in requests]
    assert service.takes_batches
    answers = service.invoke_batch(requests)
    assert [answer.body for answer in answers if isinstance(answer, Response)] == alone
    assert not caplog.text, "what cannot be stacked is logged"


@pytest.mark.parametrize(("body", "content_type"), [("3,0\n", "text/csv"), ("0:3 1:0", LIBSVM)])
def test_an_authors_own_predict_fn_gets_a_dmatrix_as_in_sagemakers_container(
    load: Load, ask: Ask, body: str, content_type: str
) -> None:
    script = """
import xgboost
def predict_fn(data, model):
    assert isinstance(data, xgboost.DMatrix)
    return model.predict(data, pred_contribs=True).sum(axis=1)
"""
    service = load({"model.ubj": saved("ubj"), "code/inference.py": script})
    assert service.invoke(ask(body, content_type)).body == b"[8.0]"
