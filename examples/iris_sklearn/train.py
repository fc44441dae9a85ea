"""The shortest way to a served model: save a scikit-learn pipeline as ``model.joblib``.

There is no code in the archive. The server sees the file, loads it and calls ``predict``; bodies
may be JSON, CSV, JSON Lines or NPY. ``request.csv`` is two flowers, one a line.
"""

from __future__ import annotations

from pathlib import Path

import joblib
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler


def train(model_dir: Path) -> None:
    """Write all that goes into the archive: one file."""
    iris = load_iris()
    species = iris.target_names[iris.target]  # so that the answers are names, not numbers
    pipeline = make_pipeline(StandardScaler(), LogisticRegression())
    pipeline.fit(iris.data, species)
    joblib.dump(pipeline, model_dir / "model.joblib")
