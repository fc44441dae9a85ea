"""Models in TorchServe's archives: ``initialize`` and ``handle``, usually of a ``BaseHandler``.

They are multi-model-server's handlers with a few differences: bodies that say they are JSON or
text come decoded, a tensor is answered as ``torch.save`` writes it, and a manifest may name one of
TorchServe's own handlers.
"""

from __future__ import annotations

import io
import os
import sys
from typing import Any

from handlers.data.media_types import BYTES
from handlers.interfaces.context import Context
from handlers.interfaces.custom_service import CustomService, load_handler, parking_of_handler
from handlers.interfaces.responses import body_of
from handlers.types import HandlerOptions, ModelPlan, Resources

# Names that a manifest may have for a handler that is not in the archive.
OWN_HANDLERS = frozenset(
    {
        *("base_handler", "image_classifier", "image_segmenter", "object_detector"),
        *("text_classifier", "text_handler", "vision_handler", "dali_image_classifier"),
    }
)
OWN_PACKAGE = "ts.torch_handler"


def load_torchserve(
    plan: ModelPlan, context: Context, options: HandlerOptions, resources: Resources
) -> CustomService:
    """Import the handler and let it load its model. Errors are the author's own."""
    handle, owner = load_handler(plan, context)
    decoded = os.environ.get("TS_DECODE_INPUT_REQUEST", "true") == "true"
    parking = parking_of_handler(owner, context, resources)
    return CustomService(handle, context, decoded=decoded, encode=_encoded, parking=parking)


def _encoded(element: Any) -> tuple[bytes, str]:
    torch = sys.modules.get("torch")
    if torch is None or not isinstance(element, torch.Tensor):
        return body_of(element)
    file = io.BytesIO()
    torch.save(element, file)
    return file.getvalue(), BYTES
