"""Bodies to arrays and back."""

from __future__ import annotations

import csv
import io
from typing import Any

from sagemaker_containers.beta.framework import content_types, errors
from sagemaker_inference import decoder, encoder

json_to_numpy = decoder._json_to_numpy
npy_to_numpy = decoder._npy_to_numpy
array_to_json = encoder._array_to_json
array_to_npy = encoder._array_to_npy


def csv_to_numpy(string_like: str, dtype: Any = None) -> Any:
    """The table as an array, of str unless a dtype is given; a lone row or column is flat."""
    import numpy as np

    array = np.array(list(csv.reader(io.StringIO(string_like), strict=True))).squeeze()
    try:
        return array if dtype is None else array.astype(dtype)
    except ValueError as error:
        raise errors.ClientError(f"The CSV holds other things than {dtype}: {error}") from error


def array_to_csv(array_like: Any) -> str:
    """The rows as lines; a flat array is one value a line."""
    import numpy as np

    array = np.array(array_like)
    rows = array.reshape(-1, 1) if array.ndim == 1 else array
    file = io.StringIO()
    csv.writer(file, lineterminator="\n").writerows(rows)
    return file.getvalue()


def decode(obj: Any, content_type: str) -> Any:
    """The array in a body. Raises ``UnsupportedFormatError``."""
    return (
        csv_to_numpy(obj)
        if content_type == content_types.CSV
        else decoder.decode(obj, content_type)
    )


def encode(array_like: Any, content_type: str) -> Any:
    """An array as one of the content types. Raises ``UnsupportedFormatError``."""
    if content_type == content_types.CSV:
        return array_to_csv(array_like)
    return encoder.encode(array_like, content_type)
