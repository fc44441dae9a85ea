"""Ten million parameters (a 40 MB state dict) over a small picture: real work for each request."""

import json
from pathlib import Path

import torch
from torch import nn


def model_fn(model_dir: str) -> nn.Module:
    model = nn.Sequential(
        nn.Flatten(),
        nn.Linear(768, 2048),
        nn.ReLU(),
        nn.Linear(2048, 4096),
        nn.ReLU(),
        nn.Linear(4096, 10),
    )
    model.load_state_dict(torch.load(Path(model_dir) / "model.pt", weights_only=True))
    return model.eval()


def input_fn(data: str | bytes, content_type: str) -> torch.Tensor:
    return torch.tensor(json.loads(data))


def predict_fn(data: torch.Tensor, model: nn.Module) -> torch.Tensor:
    with torch.inference_mode():
        prediction: torch.Tensor = model(data)
    return prediction


def output_fn(prediction: torch.Tensor, accept: str) -> str:
    return json.dumps(prediction.tolist())
