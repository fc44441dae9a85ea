"""A model of a class of your own: learn its weights here, serve it with ``code/inference.py``.

The weights are plain arrays. Pickling the object instead would tie the file to the module the class
was defined in. ``request.json`` is one image: 8 x 8 pixels from 0 (white) to 16 (black).
"""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
from sklearn.datasets import load_digits

HERE = Path(__file__).parent


def train(model_dir: Path) -> None:
    """Write all that goes into the archive: the weights and the script that reads them."""
    images, labels = load_digits(return_X_y=True)
    centroids = np.stack([images[labels == digit].mean(axis=0) for digit in range(10)])
    np.save(model_dir / "centroids.npy", centroids)
    (model_dir / "code").mkdir()
    shutil.copy(HERE / "code" / "inference.py", model_dir / "code")
