"""Bodies to what pipelines take, and back: JSON, CSV, NPY, pictures and sound."""

from __future__ import annotations

import base64
import csv
import io
import json
from datetime import datetime
from typing import Any

from mms.service import PredictionException
from sagemaker_huggingface_inference_toolkit import content_types
from sagemaker_inference import errors
from sagemaker_inference.decoder import _npy_to_numpy

CSV_HEADERS = ("question", "context", "inputs")


def decode(content: Any, content_type: str = content_types.JSON) -> Any:
    """What a body holds. Raises ``UnsupportedFormatError``, or ``PredictionException`` (400)."""
    if content_type == content_types.JSON:
        return decode_json(content)
    if content_type == content_types.CSV:
        return decode_csv(content)
    if content_type == content_types.NPY:
        return _npy_to_numpy(content)
    if content_type in content_types.VISION_TYPES:
        return decode_image(content)
    if content_type in content_types.AUDIO_TYPES:
        return decode_audio(content)
    raise errors.UnsupportedFormatError(content_type)


def encode(content: Any, accept_type: str = content_types.JSON) -> Any:
    """A result as the accepted type. Raises ``UnsupportedFormatError``."""
    if accept_type == content_types.JSON:
        return encode_json(content)
    if accept_type == content_types.CSV:
        return encode_csv(content)
    if accept_type == content_types.NPY:
        return _encode_npy(content)
    if accept_type in content_types.VISION_TYPES:
        return encode_image(content, accept_type)
    raise errors.UnsupportedFormatError(accept_type)


def decode_json(content: Any) -> Any:
    """The value."""
    return json.loads(content)


def decode_csv(string_like: str) -> dict[str, Any]:
    """The rows under ``inputs``; only their texts where there is a column of that name."""
    first = string_like.partition("\n")[0].lower()
    if not any(name in first for name in CSV_HEADERS):
        raise PredictionException(
            f"CSV needs a first line that names the columns: {', '.join(CSV_HEADERS)}.", 400
        )
    rows = list(csv.DictReader(io.StringIO(string_like)))
    if rows and "inputs" in rows[0]:
        return {"inputs": [row["inputs"] for row in rows]}
    return {"inputs": rows}


def decode_image(bpayload: bytes) -> dict[str, Any]:
    """The picture under ``inputs``."""
    from PIL import Image

    return {"inputs": Image.open(io.BytesIO(bpayload)).convert("RGB")}


def decode_audio(bpayload: bytes) -> dict[str, Any]:
    """The bytes under ``inputs``."""
    return {"inputs": bytes(bpayload)}


def encode_json(content: Any, accept_type: str | None = None) -> str:
    """JSON text; arrays become lists, pictures PNG in base64."""
    return json.dumps(
        content, ensure_ascii=False, allow_nan=False, separators=(",", ":"), default=_plain
    )


def encode_csv(content: Any, accept_type: str | None = None) -> str:
    """A list of dicts as a table."""
    rows = content if isinstance(content, list) else list(content)
    file = io.StringIO()
    writer = csv.DictWriter(file, rows[0].keys())
    writer.writeheader()
    writer.writerows(rows)
    return file.getvalue()


def encode_image(image: Any, accept_type: str = content_types.PNG) -> bytes:
    """A picture's file."""
    kind = "PNG" if accept_type == content_types.X_IMAGE else accept_type.partition("/")[2].upper()
    file = io.BytesIO()
    image.save(file, format=kind)
    return file.getvalue()


def _encode_npy(content: Any) -> bytes:
    import numpy as np

    file = io.BytesIO()
    np.save(file, content)
    return file.getvalue()


def _plain(value: Any) -> Any:
    if hasattr(value, "tolist"):
        return value.tolist()
    if isinstance(value, datetime):
        return str(value)
    if hasattr(value, "save") and hasattr(value, "getpixel"):
        return base64.b64encode(encode_image(value)).decode()
    raise TypeError(f"a {type(value).__name__} cannot be JSON")
