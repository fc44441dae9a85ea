from __future__ import annotations

import json
import pickle
import subprocess
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pandas as pd
import pytest
from sklearn.compose import make_column_transformer
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.impute import SimpleImputer
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, StandardScaler
from sklearn.tree import DecisionTreeRegressor
from skops import io as skops

from handlers.errors import InvalidInput, ModelLoadError
from handlers.frameworks import sklearn
from handlers.types import Interface, ModelPlan, Request, Resources, Response, Service

Load = Callable[..., Service]
Ask = Callable[..., Request]

ROWS = np.array([[0.0, 0.0], [1.0, 1.0], [2.0, 2.0]])


@pytest.fixture
def tree() -> Any:
    return make_pipeline(StandardScaler(), DecisionTreeRegressor()).fit(ROWS, [0.0, 10.0, 20.0])


def saved(model: Any, folder: Path, compress: int = 0) -> bytes:
    joblib.dump(model, folder / "saved", compress=compress)
    return (folder / "saved").read_bytes()


@pytest.mark.parametrize("compress", [0, 3])
def test_a_joblib_file_is_served_as_it_is(
    load: Load, ask: Ask, tmp_path: Path, tree: Any, compress: int
) -> None:
    service = load({"model.joblib": saved(tree, tmp_path, compress)})
    assert service.invoke(ask("[[1, 1], [2, 2]]")).body == b"[10.0, 20.0]"
    assert service.invoke(ask("1,1\n", "text/csv", "text/csv")).body == b"10.0\n"


@pytest.mark.parametrize("protocol", [0, pickle.HIGHEST_PROTOCOL])
@pytest.mark.parametrize("name", ["model.pkl", "tree.pickle"])
def test_a_pickle_is_served_as_it_is(
    load: Load, ask: Ask, tree: Any, name: str, protocol: int
) -> None:
    service = load({name: pickle.dumps(tree, protocol)})
    assert service.invoke(ask("[[1, 1]]")).body == b"[10.0]"


def test_large_arrays_are_mapped(tmp_path: Path) -> None:
    model = KNeighborsClassifier(1, algorithm="brute").fit(np.eye(50), np.arange(50) // 5)
    joblib.dump(model, tmp_path / "model.joblib")
    plan = ModelPlan(str(tmp_path), "sklearn", Interface.DEFAULT, artifact="model.joblib")
    loaded = sklearn.load(plan, Resources())
    assert isinstance(loaded._fit_X, np.memmap)
    assert loaded.predict(np.eye(50)[4:6]).tolist() == [0, 1]


def test_a_class_of_the_models_own_lies_in_code(load: Load, ask: Ask) -> None:
    text = "class Doubler:\n    def predict(self, data): return data * 2\n"
    module = types.ModuleType("doubler_of_test")
    exec(text, vars(module))
    sys.modules["doubler_of_test"] = module
    try:
        model = pickle.dumps(module.Doubler())
    finally:
        del sys.modules["doubler_of_test"]
    service = load({"model.pkl": model, "code/doubler_of_test.py": text})
    assert service.invoke(ask("[1]")).body == b"[2]"


def test_a_skops_file_is_served_as_it_is(load: Load, ask: Ask) -> None:
    model = make_pipeline(StandardScaler(), KNeighborsClassifier(1)).fit(ROWS, [0, 1, 2])
    service = load({"model.skops": skops.dumps(model)})
    assert service.invoke(ask("[[1, 1]]")).body == b"[1]"


def doubled(rows: Any) -> Any:
    return rows * 2


def test_types_that_skops_does_not_trust_are_named(load: Load) -> None:
    model = make_pipeline(FunctionTransformer(doubled), DecisionTreeRegressor())
    with pytest.raises(ModelLoadError, match=r"not trust: .*\.doubled\. .*trusted=\['"):
        load({"model.skops": skops.dumps(model.fit(ROWS, [0.0, 10.0, 20.0]))})


@pytest.mark.parametrize("content", [b"", b"garbage", b"PK\3\4"])
def test_a_broken_skops_file_fails_the_load(load: Load, content: bytes) -> None:
    with pytest.raises(ModelLoadError, match=r"while loading model.skops"):
        load({"model.skops": content})


@pytest.fixture
def paints() -> Any:
    """A pipeline that looks its columns up by name, one of them text."""
    table = pd.DataFrame({"colour": ["red", "blue", "red"], "litres": [1.0, 2.0, 3.0]})
    columns = make_column_transformer(
        (OneHotEncoder(), ["colour"]), (SimpleImputer(strategy="constant"), ["litres"])
    )
    return make_pipeline(columns, DecisionTreeRegressor()).fit(table, [1.0, 2.0, 3.0])


@pytest.mark.parametrize(
    "body",
    [
        '{"instances": [{"colour": "red", "litres": 1}, {"litres": 2, "colour": "blue"}]}',
        '[{"colour": "red", "litres": 1}, {"litres": 2, "colour": "blue"}]',
        '{"inputs": {"litres": [1, 2], "colour": ["red", "blue"]}}',
        '[["red", 1], ["blue", 2]]',
        '{"instances": [{"features": ["red", 1]}, {"features": ["blue", 2]}]}',
    ],
)
def test_rows_with_text_and_names_reach_a_pipeline_as_columns(
    load: Load, ask: Ask, paints: Any, body: str
) -> None:
    answer = json.loads(load({"model.pkl": pickle.dumps(paints)}).invoke(ask(body)).body)
    [values] = answer.values() if isinstance(answer, dict) else [answer]
    assert values == [1.0, 2.0]


@pytest.mark.parametrize("body", ['["good tea", "bad"]', '{"instances": ["good tea", "bad"]}'])
def test_texts_reach_a_model_that_begins_with_words(load: Load, ask: Ask, body: str) -> None:
    model = make_pipeline(CountVectorizer(), DecisionTreeRegressor(random_state=0))
    service = load({"model.pkl": pickle.dumps(model.fit(["good", "bad"], [1.0, 0.0]))})
    answer = json.loads(service.invoke(ask(body)).body)
    assert (answer["predictions"] if "instances" in body else answer) == [1.0, 0.0]


def test_null_is_a_missing_value(load: Load, ask: Ask) -> None:
    model = make_pipeline(SimpleImputer(), DecisionTreeRegressor()).fit(ROWS, [0.0, 10.0, 20.0])
    service = load({"model.pkl": pickle.dumps(model)})
    assert service.invoke(ask("[[null, 1]]")).body == b"[10.0]"
    assert service.invoke(ask(",1\n", "text/csv")).body == b"[10.0]"


@pytest.mark.parametrize(
    ("body", "content_type", "reason"),
    [
        ("", "text/csv", "body is empty"),
        ("\n", "text/csv", "body is empty"),
        ("", "application/jsonlines", "body is empty"),
        ("[[1, 2, 3]]", "", "rows have 3 values; the model takes 2"),
        ("[1, 2]", "", "one list of 2 values"),
        ('[{"a": 1}]', "", "fitted without names of columns"),
        ('{"inputs": {"a": [1, 2], "b": [1]}}', "", "different lengths"),
    ],
)
def test_a_body_that_does_not_fit_is_400(
    load: Load, ask: Ask, tree: Any, body: str, content_type: str, reason: str
) -> None:
    with pytest.raises(InvalidInput, match=reason) as caught:
        load({"model.pkl": pickle.dumps(tree)}).invoke(ask(body, content_type))
    assert caught.value.status == 400


def test_without_pandas_named_rows_are_refused_and_others_are_not(tmp_path: Path) -> None:
    model = DecisionTreeRegressor().fit(pd.DataFrame(ROWS, columns=["a", "b"]), [0.0, 10.0, 20.0])
    (tmp_path / "model.pkl").write_bytes(pickle.dumps(model))
    code = f"""
import sys
sys.modules["pandas"] = None
import numpy
from handlers.frameworks import sklearn
from handlers.frameworks.parts.pickles import load_pickle
from pathlib import Path
model = load_pickle(Path({str(tmp_path)!r}, "model.pkl"))
print(sklearn.predict_fn(numpy.ones((1, 2)), model))
try:
    print(sklearn.predict_fn([{{"b": 1, "a": 1}}], model))
except Exception as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    answer, refusal = done.stdout.splitlines()
    assert answer == "[10.]"
    assert "through pandas, which is not here" in refusal


class FromTheFuture:
    """Pickled as a class that only a newer scikit-learn has."""

    def __reduce__(self) -> Any:
        return _Missing, (), {"_sklearn_version": "99.1.0"}


class _Missing:
    pass


def test_a_pickle_of_a_newer_version_is_told_with_both_versions(load: Load) -> None:
    content = pickle.dumps(FromTheFuture()).replace(__name__.encode(), b"sklearn.future")
    with pytest.raises(ModelLoadError, match=r"saved with scikit-learn 99\.1\.0, and .* has 1\."):
        load({"model.pkl": content})


def test_a_pickle_of_another_version_that_loads_is_served(
    load: Load, ask: Ask, tree: Any, caplog: pytest.LogCaptureFixture
) -> None:
    import sklearn as library

    here = library.__version__.encode()
    content = pickle.dumps(tree).replace(here, b"0" * len(here))
    assert load({"model.pkl": content}).invoke(ask("[[1, 1]]")).body == b"[10.0]"
    assert "Trying to unpickle estimator" in caplog.text


@pytest.mark.parametrize("content", [b"", b"garbage", b"\x80garbage"])
def test_a_broken_file_fails_the_load(load: Load, content: bytes) -> None:
    with pytest.raises(ModelLoadError, match=r"model\.joblib"):
        load({"model.joblib": content})


def test_a_batch_is_one_prediction(
    load: Load, ask: Ask, tree: Any, caplog: pytest.LogCaptureFixture
) -> None:
    service = load({"model.pkl": pickle.dumps(tree)})
    requests = [ask("[[0, 1], [3, 0]]"), ask("3,0\n", "text/csv"), ask('{"instances": [[0, 1]]}')]
    alone = [service.invoke(request).body for request in requests]
    assert service.takes_batches
    answers = service.invoke_batch(requests)
    assert [answer.body for answer in answers if isinstance(answer, Response)] == alone
    assert not caplog.text, "what cannot be stacked is logged"


def test_a_pickle_that_ends_early_is_damaged(load: Load, tree: Any) -> None:
    with pytest.raises(ModelLoadError, match=r"model.pkl is empty"):
        load({"model.pkl": b""})
    content = pickle.dumps(tree)
    with pytest.raises(ModelLoadError, match=r"model.pkl is damaged or incomplete"):
        load({"model.pkl": content[: len(content) // 2]})


def test_a_pickle_of_another_version_comes_with_no_other_advice(load: Load, tree: Any) -> None:
    import sklearn as library

    content = pickle.dumps(tree).replace(b"sklearn.tree._classes", b"sklearn.tree._klasses")
    here = library.__version__.encode()
    with pytest.raises(ModelLoadError, match="saved with scikit-learn 9") as caught:
        load({"model.pkl": content.replace(here, b"9" + here[1:])})
    assert "file of yours" not in caught.value.message


def test_a_sav_is_a_pickle(load: Load, ask: Ask, tree: Any) -> None:
    assert load({"finalized_model.sav": pickle.dumps(tree)}).invoke(ask("[[1, 1]]")).body


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("[[1, 2], [1]]", "Row 2 has 1 values, row 1 has 2"),
        ("[[1, 2], 3]", "Row 2 is a int, row 1 is a list"),
        ('[[1, 2], [1, "a"]]', "Row 2 has 'a', which is not a number"),
        ('{"instances": [[1, 2], [1, "a"]]}', "Row 2 has 'a', which is not a number"),
    ],
)
def test_rows_that_are_no_numbers_are_named(
    load: Load, ask: Ask, tree: Any, body: str, reason: str
) -> None:
    with pytest.raises(InvalidInput, match=reason):
        load({"model.pkl": pickle.dumps(tree)}).invoke(ask(body))
