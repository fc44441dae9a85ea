"""The class of the model; the server makes it without arguments and gives it the weights."""

from __future__ import annotations

import torch


class Digits(torch.nn.Module):
    """Rows of 64 pixels in, the probabilities of ten digits out."""

    def __init__(self, hidden: int = 32) -> None:
        super().__init__()
        self.hidden = torch.nn.Linear(64, hidden)
        self.scores = torch.nn.Linear(hidden, 10)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """The model as it is trained and as it is served."""
        scores: torch.Tensor = self.scores(torch.relu(self.hidden(pixels / 16)))
        return scores.softmax(dim=1)
