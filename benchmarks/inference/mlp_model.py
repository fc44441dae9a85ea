"""The class of the ten million parameters, for where only weights are given."""

from torch import Tensor, nn


class Network(nn.Module):
    """Over a small picture: real work for each request."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Flatten(),
            nn.Linear(768, 2048),
            nn.ReLU(),
            nn.Linear(2048, 4096),
            nn.ReLU(),
            nn.Linear(4096, 10),
        )

    def forward(self, picture: Tensor) -> Tensor:
        prediction: Tensor = self.layers(picture)
        return prediction
