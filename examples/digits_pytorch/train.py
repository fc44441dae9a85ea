"""Train a small network and write its weights as ``model.safetensors``, with its class beside it.

There is no script in the archive. The server finds the one ``torch.nn.Module`` in ``model.py`` and
maps the weights, so that copies of the model share them. ``torch.save(model.state_dict())`` does as
well; a model saved by ``torch.jit.save`` or ``torch.export.save`` needs no class.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import torch
from safetensors.torch import save_file
from sklearn.datasets import load_digits

from examples.digits_pytorch.model import Digits

HERE = Path(__file__).parent


def train(model_dir: Path) -> None:
    """Write all that goes into the archive: the weights and the class."""
    torch.manual_seed(0)
    digits = load_digits()
    images, labels = torch.tensor(digits.data).float(), torch.tensor(digits.target)
    model = Digits()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    for _ in range(100):
        optimizer.zero_grad()
        torch.nn.functional.nll_loss(model(images).log(), labels).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    save_file(model.state_dict(), model_dir / "model.safetensors")
    shutil.copy(HERE / "model.py", model_dir)
