"""The class of the smallest torch model, for where only weights are given."""

from torch import Tensor, nn


class Net(nn.Module):
    """Two sums of four numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.one = nn.Linear(4, 2)

    def forward(self, rows: Tensor) -> Tensor:
        prediction: Tensor = self.one(rows)
        return prediction
