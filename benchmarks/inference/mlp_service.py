"""The ten million parameters as a multi-model-server custom service that takes lists."""

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

_model: list[nn.Module] = []


def handle(data: Any, context: Any) -> Any:
    if data is None:
        _model.append(_load(context.system_properties["model_dir"]))
        return None
    arrays = [np.load(io.BytesIO(row["body"])) for row in data]
    with torch.inference_mode():
        found = _model[0](torch.from_numpy(np.concatenate(arrays))).tolist()
    return [json.dumps([row]) for row in found]


def _load(model_dir: str) -> nn.Module:
    model = nn.Sequential(
        nn.Flatten(),
        nn.Linear(768, 2048),
        nn.ReLU(),
        nn.Linear(2048, 4096),
        nn.ReLU(),
        nn.Linear(4096, 10),
    )
    weights = torch.load(Path(model_dir) / "model.pt", weights_only=True)
    model.load_state_dict(weights)
    return model.eval()
