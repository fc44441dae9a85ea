"""Kinds of data, and files of them as DMatrix."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sagemaker_inference.errors import UnsupportedFormatError
from sagemaker_xgboost_container import encoder

CSV = "csv"
LIBSVM = "libsvm"
PARQUET = "parquet"
RECORDIO_PROTOBUF = "recordio-protobuf"

_KINDS = {
    CSV: (CSV, encoder.CSV),
    LIBSVM: (LIBSVM, *encoder.LIBSVM),
    PARQUET: (PARQUET, "application/x-parquet"),
    RECORDIO_PROTOBUF: (RECORDIO_PROTOBUF, "application/x-recordio-protobuf"),
}
VALID_CONTENT_TYPES = [name for names in _KINDS.values() for name in names]


def get_content_type(content_type_cfg_val: str | None) -> str:
    """csv, libsvm, parquet or recordio-protobuf; libsvm where nothing is said."""
    if content_type_cfg_val is None:
        return LIBSVM
    essence = content_type_cfg_val.partition(";")[0].strip().lower()
    for kind, names in _KINDS.items():
        if essence in names:
            return kind
    raise UnsupportedFormatError(content_type_cfg_val)


def get_dmatrix(
    data_path: str, content_type: str, csv_weights: int = 0, is_pipe: bool = False
) -> Any:
    """A file, or those of a directory, as a DMatrix; labels come first. CSV and LIBSVM."""
    kind = get_content_type(content_type)
    if kind == CSV:
        return get_csv_dmatrix(data_path, csv_weights, is_pipe)
    if kind == LIBSVM:
        return get_libsvm_dmatrix(data_path, is_pipe)
    raise UnsupportedFormatError(content_type)


def get_csv_dmatrix(path: str, csv_weights: int, is_pipe: bool = False) -> Any:
    """Columns: label, weight if ``csv_weights`` is 1, features."""
    import numpy as np
    import xgboost as xgb

    tables = [np.genfromtxt(file, delimiter=",", ndmin=2) for file in _files(path)]
    table = np.vstack(tables)
    weight = table[:, 1] if csv_weights else None
    return xgb.DMatrix(table[:, 1 + bool(csv_weights) :], label=table[:, 0], weight=weight)


def get_libsvm_dmatrix(files_path: str, is_pipe: bool = False) -> Any:
    """Lines of ``label index:value …``."""
    text = "\n".join(file.read_text() for file in _files(files_path))
    matrix = encoder.libsvm_to_dmatrix(text)
    matrix.set_label([float(line.split()[0]) for line in text.split("\n") if line.strip()])
    return matrix


def _files(path: str) -> list[Path]:
    place = Path(path)
    files = sorted(place.iterdir()) if place.is_dir() else [place]
    return [file for file in files if file.is_file() and file.name[0] not in "._"]
