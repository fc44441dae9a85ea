"""The base of handlers whose requests are pictures."""

from __future__ import annotations

import base64
import io
from typing import Any

from ts.handler_utils.timer import timed
from ts.torch_handler.base_handler import BaseHandler


class VisionHandler(BaseHandler):
    """Decodes pictures; a subclass's ``image_processing`` makes tensors of them."""

    image_processing: Any = None

    def initialize(self, context: Any) -> None:
        """Load the model."""
        super().initialize(context)
        if not context.system_properties.get("limit_max_image_pixels"):
            from PIL import Image

            Image.MAX_IMAGE_PIXELS = None

    @timed
    def preprocess(self, data: Any) -> Any:
        """The pictures as one tensor. A list of numbers is a tensor already, a str base64."""
        import torch

        return torch.stack([self._tensor(row) for row in data]).to(self.device)

    def _tensor(self, row: Any) -> Any:
        import torch

        image = row.get("data") or row.get("body")
        if isinstance(image, str):
            image = base64.b64decode(image)
        if not isinstance(image, bytes | bytearray):
            return torch.FloatTensor(image)
        from PIL import Image

        return self.image_processing(Image.open(io.BytesIO(image)))
