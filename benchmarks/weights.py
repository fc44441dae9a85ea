"""Trains or makes up the weights of the benchmark models: ``python -m benchmarks.weights DIR``.

A program of its own: if the process that measures imported torch, it would share torch's pages
with the server under test and make that server's share of the memory look smaller.
"""

from __future__ import annotations

import sys
from pathlib import Path

import joblib
import torch
from safetensors.torch import save_file
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression
from torch import nn


def write_all(directory: Path) -> None:
    """Write one weights file for each model that has weights."""
    torch.manual_seed(0)
    torch.save(nn.Linear(4, 2).state_dict(), directory / "tiny.pt")
    torch.save(_mlp().state_dict(), directory / "mlp.pt")
    save_file(_large(), directory / "large.safetensors")
    features, labels = load_iris(return_X_y=True)
    joblib.dump(LogisticRegression(max_iter=1000).fit(features, labels), directory / "iris.joblib")


def _mlp() -> nn.Module:
    return nn.Sequential(
        nn.Flatten(),
        nn.Linear(768, 2048),
        nn.ReLU(),
        nn.Linear(2048, 4096),
        nn.ReLU(),
        nn.Linear(4096, 10),
    )


def _large() -> dict[str, torch.Tensor]:
    scale = 2048**-0.5
    return {f"{layer}.weight": torch.randn(2048, 2048) * scale for layer in range(25)}


if __name__ == "__main__":
    write_all(Path(sys.argv[1]))
