"""Pictures as NDArrays."""

from __future__ import annotations

import base64
import io
from typing import Any


def read(buf: bytes, flag: int | None = 1, to_rgb: bool = True, out: Any = None) -> Any:
    """The picture in a file's bytes: height, width, channels. A flag of 0 makes it grey."""
    import mxnet as mx

    return mx.img.imdecode(buf, flag=flag, to_rgb=to_rgb, out=out)


def transform_shape(img_arr: Any, dim_order: str = "NCHW") -> Any:
    """A batch of this one picture, in the order of dimensions that a model takes."""
    if dim_order == "NCHW":
        img_arr = img_arr.transpose((2, 0, 1))
    elif dim_order != "NHWC":
        raise ValueError(f"the order of dimensions is {dim_order!r}; it must be NCHW or NHWC")
    return img_arr.expand_dims(axis=0)


def resize(src: Any, new_width: int, new_height: int, interp: int = 2) -> Any:
    """The picture in another size."""
    import mxnet as mx

    return mx.img.imresize(src, new_width, new_height, interp)


def fixed_crop(
    src: Any, x0: int, y0: int, w: int, h: int, size: Any = None, interp: int = 2
) -> Any:
    """A part of the picture, in another size if there is one."""
    import mxnet as mx

    return mx.img.fixed_crop(src, x0, y0, w, h, size, interp)


def color_normalize(src: Any, mean: Any, std: Any = None) -> Any:
    """The picture less the mean, by the deviation."""
    import mxnet as mx

    return mx.img.color_normalize(src, mean, std)


def write(img_arr: Any, flag: int = 1, output_format: str = "jpeg", dim_order: str = "CHW") -> str:
    """A picture's file in base64. Needs Pillow."""
    from PIL import Image

    array = img_arr.asnumpy()
    array = array.transpose((1, 2, 0)) if dim_order == "CHW" else array
    array = array.astype("uint8") if flag else array.astype("uint8")[:, :, 0]
    file = io.BytesIO()
    Image.fromarray(array).save(file, output_format)
    return base64.b64encode(file.getvalue()).decode()
