"""The network of the GPU check: 16 layers of 64 MiB, 1 GiB in all."""

import torch
from torch import nn

WIDTH = 4096
LAYERS = 16


class Network(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(*(nn.Linear(WIDTH, WIDTH, bias=False) for _ in range(LAYERS)))

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        return self.layers(rows.repeat(1, WIDTH))[:, :4]  # type: ignore[no-any-return]
