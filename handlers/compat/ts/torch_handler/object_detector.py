"""TorchServe's handler for detectors of objects, such as torchvision's."""

from __future__ import annotations

from typing import Any

from ts.torch_handler.image_classifier import pixels_of
from ts.torch_handler.vision_handler import VisionHandler
from ts.utils.util import map_class_to_label


class ObjectDetector(VisionHandler):
    """Boxes by label, each with its score, for what is likelier than ``threshold``."""

    threshold = 0.5
    image_processing = staticmethod(pixels_of)

    def preprocess(self, data: Any) -> Any:
        """The pictures as tensors, each in its own size."""
        return [self._tensor(row).to(self.device) for row in data]

    def inference(self, data: Any, *args: Any, **kwargs: Any) -> Any:
        """What the model finds in each picture."""
        import torch

        with torch.inference_mode():
            found = self.model(data, *args, **kwargs)
        return found[1] if isinstance(found, tuple) else found  # scripted: (losses, detections)

    def postprocess(self, data: Any) -> Any:
        """For each picture, what is likely enough."""
        return [self._likely(found) for found in data]

    def _likely(self, found: Any) -> list[dict[str, Any]]:
        likely = found["scores"] >= self.threshold
        boxes, labels, scores = (
            found[key][likely].tolist() for key in ("boxes", "labels", "scores")
        )
        return [
            {**map_class_to_label([[box]], self.mapping, [[label]])[0], "score": score}
            for box, label, score in zip(boxes, labels, scores, strict=True)
        ]
