"""A scikit-learn logistic regression over the iris data, JSON rows in, JSON labels out."""

import json
from pathlib import Path
from typing import Any

import joblib
import numpy as np


def model_fn(model_dir: str) -> Any:
    return joblib.load(Path(model_dir) / "model.joblib")


def input_fn(data: str | bytes, content_type: str) -> Any:
    return np.asarray(json.loads(data))


def predict_fn(data: Any, model: Any) -> Any:
    return model.predict(data)


def output_fn(prediction: Any, accept: str) -> str:
    return json.dumps(prediction.tolist())
