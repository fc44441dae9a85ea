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
    """Rows of ``label index:value …``; indices count from 0, and what is absent is missing."""
    import numpy as np
    import xgboost as xgb
    from scipy.sparse import csr_matrix

    text = string_like if isinstance(string_like, str) else bytes(string_like).decode()
    rows = [_pairs(line) for line in text.split("\n") if line.strip()]
    pairs = [pair for row in rows for pair in row]
    values, columns = np.array([v for _, v in pairs]), np.array([c for c, _ in pairs], dtype=int)
    ends = np.cumsum([0, *map(len, rows)])
    width = max((column for column, _ in pairs), default=-1) + 1
    return xgb.DMatrix(csr_matrix((values, columns, ends), shape=(len(rows), width)))


def _pairs(line: str) -> list[tuple[int, float]]:
    cut = [token.partition(":") for token in line.split() if ":" in token]
    return [(int(index), float(value)) for index, _, value in cut]


def decode(obj: Any, content_type: str) -> Any:
    """The DMatrix in a body. Raises ``UnsupportedFormatError``."""
    essence = content_type.partition(";")[0].strip().lower()
    if essence == CSV:
        return csv_to_dmatrix(obj)
    if essence in LIBSVM:
        return libsvm_to_dmatrix(obj)
    raise UnsupportedFormatError(content_type)
