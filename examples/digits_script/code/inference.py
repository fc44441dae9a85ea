"""Runs in the server: how to load the digits model and how to ask it.

The server calls ``model_fn`` once per load and ``predict_fn`` once per request. The server reads
and writes bodies (JSON, CSV, NPY, …), unless the script defines ``input_fn`` or ``output_fn``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]


class NearestCentroid:
    """Takes an image for the digit whose average image is nearest."""

    def __init__(self, centroids: Array) -> None:
        self._centroids = centroids

    def classify(self, image: Array) -> dict[str, Any]:
        """The digit, and how far the image is from its average."""
        distances = np.linalg.norm(self._centroids - image.reshape(1, -1), axis=1)
        digit = int(distances.argmin())
        return {"digit": digit, "distance": round(float(distances[digit]), 2)}


def model_fn(model_dir: str) -> NearestCentroid:
    """Load: ``model_dir`` is the extracted archive."""
    return NearestCentroid(np.load(Path(model_dir) / "centroids.npy"))


def predict_fn(data: Array, model: NearestCentroid) -> dict[str, Any]:
    """Answer one request: ``data`` is its body as an array, ``model`` what model_fn returned."""
    return model.classify(data)
