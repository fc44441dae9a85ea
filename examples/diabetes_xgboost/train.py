"""Train with XGBoost and save the booster as ``model.ubj``; ``.json`` would do as well.

Bodies are rows of features as CSV, libsvm or JSON; an empty cell or ``null`` is a missing value. In
``request.csv`` the second patient's blood pressure was not measured. The answer is one value a row.
"""

from __future__ import annotations

from pathlib import Path

import xgboost
from sklearn.datasets import load_diabetes


def train(model_dir: Path) -> None:
    """Write all that goes into the archive: one file."""
    patients = load_diabetes(scaled=False)
    rows = xgboost.DMatrix(patients.data, patients.target, nthread=1)
    settings = {"objective": "reg:squarederror", "max_depth": 3, "eta": 0.2, "nthread": 1}
    booster = xgboost.train(settings, rows, num_boost_round=40)
    booster.save_model(model_dir / "model.ubj")
