"""TorchServe's handler for models that tell the class of each pixel, such as torchvision's."""

from __future__ import annotations

from typing import Any

from ts.torch_handler.image_classifier import as_on_imagenet
from ts.torch_handler.vision_handler import VisionHandler


class ImageSegmenter(VisionHandler):
    """For each pixel the likeliest class and its probability."""

    image_processing = staticmethod(as_on_imagenet)

    def postprocess(self, data: Any) -> Any:
        """Height by width pairs for each picture."""
        import torch

        scores = data["out"] if isinstance(data, dict) else data
        best = torch.nn.functional.softmax(scores, dim=1).max(dim=1)
        return torch.stack([best.indices.to(best.values.dtype), best.values], dim=3).tolist()
