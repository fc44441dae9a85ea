"""Trains or makes up weights of benchmark models: ``python -m benchmarks.weights DIR WHICH``.

A program of its own: if the process that measures imported torch, it would share torch's pages
with the server under test and make that server's share of the memory look smaller.
"""

from __future__ import annotations

import pickle
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import torch
from safetensors.torch import save_file
from sklearn.datasets import load_iris
from sklearn.ensemble import RandomForestRegressor
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from torch import nn

from benchmarks.inference.mlp_model import Network

PICTURE_SHAPE = (3, 16, 16)
PICKLED_SHAPE = (100_000, 500)  # of 8 bytes
ROWS = (1, 16)
FOREST_ROWS = 2_050
FOREST_COLUMNS = 8


def write_basic(directory: Path) -> None:
    """Write the weights that most benchmarks need."""
    torch.manual_seed(0)
    tiny = nn.Linear(4, 2)
    torch.save(tiny.state_dict(), directory / "tiny.pt")
    trace: Any = torch.jit.trace
    torch.jit.save(trace(tiny.eval(), torch.zeros(1, 4)), directory / "tiny_traced.pt")
    save_file(tiny.state_dict(), directory / "tiny.safetensors")
    network = Network()
    torch.save(network.layers.state_dict(), directory / "mlp.pt")
    torch.save(network.state_dict(), directory / "mlp_model.pt")
    save_file(_large(), directory / "large.safetensors")
    features, labels = load_iris(return_X_y=True)
    joblib.dump(LogisticRegression(max_iter=1000).fit(features, labels), directory / "iris.joblib")
    for rows in ROWS:
        np.save(directory / f"pictures-{rows}.npy", np.full((rows, *PICTURE_SHAPE), 0.25, "f4"))


def write_pickled(directory: Path) -> None:
    """Write 400 MB that have to be read: a classifier that keeps all that it has seen."""
    random = np.random.default_rng(0)
    features = random.random(PICKLED_SHAPE)
    model = KNeighborsClassifier(algorithm="brute").fit(features, features[:, 0] > 0.5)
    with (directory / "pickled.pkl").open("wb") as file:
        pickle.dump(model, file)


def write_forest(directory: Path) -> None:
    """Write trees that take 5 MB in an archive."""
    random = np.random.default_rng(0)
    rows = random.random((FOREST_ROWS, FOREST_COLUMNS))
    values = rows[:, 0] + random.normal(0, 0.2, FOREST_ROWS)
    forest = RandomForestRegressor(random_state=0).fit(rows, values)
    joblib.dump(forest, directory / "forest.joblib")


def _large() -> dict[str, torch.Tensor]:
    scale = 2048**-0.5
    return {f"{layer}.weight": torch.randn(2048, 2048) * scale for layer in range(25)}


WRITERS: dict[str, Callable[[Path], None]] = {
    "basic": write_basic,
    "forest": write_forest,
    "pickled": write_pickled,
}


if __name__ == "__main__":
    WRITERS[sys.argv[2]](Path(sys.argv[1]))
