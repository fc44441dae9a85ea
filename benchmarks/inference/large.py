"""25 square layers, 400 MB of safetensors, mapped instead of read and put into an empty model."""

import json
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import nn


def model_fn(model_dir: str) -> nn.Module:
    with torch.device("meta"):
        model = nn.Sequential(*(nn.Linear(2048, 2048, bias=False) for _ in range(25)))
    model.load_state_dict(load_file(Path(model_dir) / "model.safetensors"), assign=True)
    return model.eval()


def input_fn(data: str | bytes, content_type: str) -> torch.Tensor:
    return torch.tensor(json.loads(data))


def predict_fn(data: torch.Tensor, model: nn.Module) -> torch.Tensor:
    with torch.inference_mode():
        prediction: torch.Tensor = model(data)
    return prediction


def output_fn(prediction: torch.Tensor, accept: str) -> str:
    return json.dumps(prediction.tolist())
