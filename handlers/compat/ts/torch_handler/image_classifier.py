"""TorchServe's handler for classifiers of pictures that were trained as on ImageNet."""

from __future__ import annotations

from typing import Any

from ts.handler_utils.timer import timed
from ts.torch_handler.vision_handler import VisionHandler
from ts.utils.util import map_class_to_label

SHORTER_SIDE = 256
CROP = 224
MEAN = (0.485, 0.456, 0.406)
DEVIATION = (0.229, 0.224, 0.225)


def pixels_of(image: Any) -> Any:
    """Channels, height and width, from 0 to 1."""
    import torch

    image = image.convert("RGB")
    values = torch.frombuffer(bytearray(image.tobytes()), dtype=torch.uint8)
    return values.reshape(image.height, image.width, 3).permute(2, 0, 1).float() / 255


def as_on_imagenet(image: Any) -> Any:
    """Scaled to a shorter side of 256, the middle 224 by 224 of it, normalized."""
    import torch
    from PIL import Image

    image = image.convert("RGB")
    scale = SHORTER_SIDE / min(image.size)
    size = [SHORTER_SIDE if side == min(image.size) else int(side * scale) for side in image.size]
    image = image.resize(size, Image.Resampling.BILINEAR)
    left, top = (round((side - CROP) / 2) for side in image.size)
    image = image.crop((left, top, left + CROP, top + CROP))
    pixels = pixels_of(image)
    mean, deviation = (torch.tensor(three).reshape(3, 1, 1) for three in (MEAN, DEVIATION))
    return (pixels - mean) / deviation


class ImageClassifier(VisionHandler):
    """The ``topk`` likeliest classes of a picture, by name if there is an index_to_name.json."""

    topk = 5
    image_processing = staticmethod(as_on_imagenet)

    def set_max_result_classes(self, topk: int) -> None:
        """Choose how many classes are answered."""
        self.topk = topk

    def get_max_result_classes(self) -> int:
        """How many classes are answered."""
        return self.topk

    @timed
    def postprocess(self, data: Any) -> Any:
        """Probabilities by label for each picture."""
        import torch

        probabilities = torch.nn.functional.softmax(data, dim=1)
        most = min(self.topk, probabilities.shape[1])
        values, classes = torch.topk(probabilities, most, dim=1)
        return map_class_to_label(values.tolist(), self.mapping, classes.tolist())
