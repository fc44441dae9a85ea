"""Train with LightGBM and save the booster as ``model.txt``.

The request has TensorFlow Serving's shape, ``{"instances": rows}``, so the answer is
``{"predictions": ...}``: for each wine the probabilities of the three vineyards.
"""

from __future__ import annotations

from pathlib import Path

import lightgbm
from sklearn.datasets import load_wine


def train(model_dir: Path) -> None:
    """Write all that goes into the archive: one file."""
    wines = load_wine()
    rows = lightgbm.Dataset(wines.data, wines.target, params={"verbose": -1})
    settings = {"objective": "multiclass", "num_class": 3, "num_threads": 1, "verbose": -1}
    booster = lightgbm.train(settings, rows, num_boost_round=30)
    booster.save_model(model_dir / "model.txt")
