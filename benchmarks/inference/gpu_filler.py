"""Fills 60 % of its GPU, by a tensor that is no module's and so cannot be parked."""

from typing import Any

import torch


def model_fn(model_dir: str, context: Any) -> list[torch.Tensor]:
    device = f"cuda:{context.system_properties['gpu_id']}"
    share = int(torch.cuda.mem_get_info(device)[1] * 0.6)
    return [torch.empty(share, dtype=torch.uint8, device=device)]


def transform_fn(model: list[torch.Tensor], body: bytes, content_type: str, accept: str) -> str:
    return str(model[0].numel())
