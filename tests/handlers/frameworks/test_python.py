from __future__ import annotations

from typing import Any

import pytest

from handlers.errors import ModelLoadError
from handlers.frameworks import python
from handlers.types import Interface, ModelPlan, Resources


class HasPredict:
    def predict(self, data: Any) -> Any:
        return [data]


@pytest.mark.parametrize("model", [HasPredict(), lambda data: [data]])
def test_a_model_predicts_or_is_called(model: Any) -> None:
    assert python.predict_fn(1, model) == [1]


def test_a_model_that_does_neither_is_told_what_to_define() -> None:
    with pytest.raises(TypeError, match="give the model a predict_fn"):
        python.predict_fn(1, {"weights": 2})


def test_there_is_nothing_to_load_without_code() -> None:
    with pytest.raises(ModelLoadError, match="needs a model_fn"):
        python.load(ModelPlan("/m", "python", Interface.DEFAULT), Resources())
