"""Bodies to DMatrix: CSV and LIBSVM."""

from __future__ import annotations

import csv
from typing import Any

from sagemaker_inference.errors import UnsupportedFormatError

CSV = "text/csv"
LIBSVM = ("text/libsvm", "text/x-libsvm")


def csv_to_dmatrix(input: str | bytes, dtype: Any = None) -> Any:
    """The table, empty cells as NaN. The delimiter is guessed from the first line."""
    import numpy as np
    import xgboost as xgb

    text = (input.decode() if isinstance(input, bytes | bytearray) else input).strip("\n")
    delimiter = csv.Sniffer().sniff(text.split("\n")[0][:512]).delimiter
    delimiter = "," if delimiter.isalnum() else delimiter
    rows = [[cell or "nan" for cell in line.split(delimiter)] for line in text.split("\n")]
    return xgb.DMatrix(np.array(rows).astype(dtype or float))


def libsvm_to_dmatrix(string_like: str | bytes) -> Any:
    """Rows of ``label index:value …``; indices count from 1 unless one is 0."""
    import numpy as np
    import xgboost as xgb

    text = string_like if isinstance(string_like, str) else bytes(string_like).decode()
    rows = [
        {int(index): float(value) for index, _, value in _pairs(line)}
        for line in text.strip().split("\n")
    ]
    indices = [index for row in rows for index in row]
    if not indices:
        return xgb.DMatrix(np.empty((0, 0)))
    first = min(1, *indices)
    table = np.zeros((len(rows), max(indices) - first + 1))
    for number, row in enumerate(rows):
        for index, value in row.items():
            table[number, index - first] = value
    return xgb.DMatrix(table)


def _pairs(line: str) -> list[tuple[str, str, str]]:
    return [token.partition(":") for token in line.split() if ":" in token]


def decode(obj: Any, content_type: str) -> Any:
    """The DMatrix in a body. Raises ``UnsupportedFormatError``."""
    essence = content_type.partition(";")[0].strip().lower()
    if essence == CSV:
        return csv_to_dmatrix(obj)
    if essence in LIBSVM:
        return libsvm_to_dmatrix(obj)
    raise UnsupportedFormatError(content_type)
