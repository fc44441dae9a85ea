"""Rows of features as models of tables take them: arrays, or columns with names.

What the codecs leave as lists is settled here: ``null`` is a missing value, NaN; rows with text
in them keep their types; rows that are objects are put into the order of the model's columns.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from handlers.data.envelopes import bare_rows
from handlers.errors import InvalidInput
from handlers.optional_packages import usable

MAX_NAMED = 10  # columns named in an error

# Numpy's own kinds of numbers, and what JSON may have in a cell.
_NUMBERS = int | float | None


def with_nan(value: Any) -> Any:
    """Lists of numbers and nulls as an array with NaN; anything else as it is."""
    if not isinstance(value, list):
        return value
    array = _objects(value)
    if array is None or not array.size or not all(isinstance(x, _NUMBERS) for x in array.flat):
        return value
    return array.astype(float)


def _objects(value: list[Any]) -> Any:
    """An array of Python objects; None for rows of different lengths."""
    import numpy as np

    try:
        return np.array(value, dtype=object)
    except ValueError:
        return None


def rows_of(data: Any, names: Sequence[str] | None, expected: int | None) -> Any:
    """What ``input_fn`` gave, as an array of rows. Raises ``InvalidInput``.

    ``names`` are the model's columns, if it knows any, ``expected`` is how many it has. Data that
    is neither rows nor columns, such as texts, is left to the model.
    """
    if isinstance(data, list):
        data = bare_rows(data)
        if data and all(isinstance(row, dict) for row in data):
            data = _ordered(data, names)
    elif isinstance(data, dict):
        data = _ordered(_rows_of_columns(data), names)
    if isinstance(data, list):
        check_lengths(data)
        data = _array(data)
    check_width(data, expected)
    return _floats(data)


def check_numbers(rows: Any) -> None:
    """Raise ``InvalidInput`` for a list of rows with text in them, or of different lengths.

    A list of texts is left to the model, as is what is no list.
    """
    check_lengths(rows)
    for number, row in enumerate(rows if isinstance(rows, list) else (), 1):
        for cell in row if isinstance(row, list) else ():
            if not isinstance(cell, list | dict | _NUMBERS):
                raise InvalidInput(f"Row {number} has {_short(cell)}, which is not a number.")


def check_lengths(rows: Any) -> None:
    """Raise ``InvalidInput`` for a list of rows that are not of one length."""
    if not isinstance(rows, list) or not rows or not isinstance(rows[0], list):
        return
    for number, row in enumerate(rows, 1):
        if not isinstance(row, list):
            raise InvalidInput(f"Row {number} is {_short(row)}, row 1 is a list of values.")
        if len(row) != len(rows[0]):
            raise InvalidInput(f"Row {number} has {len(row)} values, row 1 has {len(rows[0])}.")


def _short(cell: Any) -> str:
    return f"{str(cell)[:40]!r}" if isinstance(cell, str) else f"a {type(cell).__name__}"


def _floats(data: Any) -> Any:
    """Tables of integers as floats: JSON has one kind of number, and models learn from floats."""
    shape = getattr(data, "shape", ())
    return data.astype(float) if len(shape) == 2 and data.dtype.kind in "iu" else data


def _array(rows: list[Any]) -> Any:
    """Rows of numbers as such; rows with text as objects, so that numbers stay numbers."""
    numbers = with_nan(rows)
    if numbers is not rows:
        return numbers
    array = _objects(rows)
    if array is None or array.ndim != 2:  # e.g. texts, for a model that begins with words
        return rows
    array[array == None] = float("nan")  # noqa: E711 - element by element
    return array


def _rows_of_columns(columns: dict[str, Any]) -> list[dict[str, Any]]:
    """``{"a": [1, 2], "b": [3, 4]}`` row by row; one row of plain values is one row."""
    lists = {
        name: value.tolist() if hasattr(value, "tolist") else value
        for name, value in columns.items()
    }
    if not any(isinstance(value, list) for value in lists.values()):
        return [lists]
    lengths = {len(value) if isinstance(value, list) else 0 for value in lists.values()}
    if len(lengths) != 1:
        raise InvalidInput(
            "The named columns have different lengths; send one value a row in each."
        )
    return [dict(zip(lists, row, strict=True)) for row in zip(*lists.values(), strict=True)]


def _ordered(rows: list[dict[str, Any]], names: Sequence[str] | None) -> list[list[Any]]:
    """Rows with names as rows in the model's order."""
    if not names:
        raise InvalidInput(
            "The rows have names, but this model was fitted without names of columns. Send each "
            "row as a list of values."
        )
    known = set(names)
    for number, row in enumerate(rows, 1):
        if row.keys() != known:
            raise InvalidInput(_mismatch(number, row, names))
    return [[row[name] for name in names] for row in rows]


def _mismatch(number: int, row: dict[str, Any], names: Sequence[str]) -> str:
    lacks = [name for name in names if name not in row]
    unknown = [name for name in row if name not in set(names)]
    said = [f"lacks {_listing(lacks)}"] if lacks else []
    said += [f"has {_listing(unknown)}, which the model does not know"] if unknown else []
    return f"Row {number} {' and '.join(said)}. The model's columns are {_listing(names)}."


def _listing(names: Sequence[str]) -> str:
    more = f" and {len(names) - MAX_NAMED} more" if len(names) > MAX_NAMED else ""
    return ", ".join(names[:MAX_NAMED]) + more


def check_width(data: Any, expected: int | None) -> None:
    """Raise ``InvalidInput`` for an array that is not rows of so many values."""
    shape = getattr(data, "shape", None)
    if not expected or shape is None or not shape:
        return
    if len(shape) == 1 and getattr(data, "dtype", None) is not None:
        raise InvalidInput(
            f"The body is one list of {shape[0]} values. Send a list of rows of {expected} values "
            "each, also when there is only one row."
        )
    if len(shape) == 2 and shape[1] != expected:
        raise InvalidInput(f"The rows have {shape[1]} values; the model takes {expected}.")


def frame(rows: Any, names: Sequence[str]) -> Any:
    """Rows as a DataFrame, for models that look columns up by name. Needs pandas."""
    import pandas as pd

    table = pd.DataFrame(rows, columns=list(names)).infer_objects()
    whole = table.select_dtypes("integer").columns
    return table.astype(dict.fromkeys(whole, float)) if len(whole) else table


def is_array(value: Any) -> bool:
    """Whether it is a table in memory: neither a list, nor a sparse matrix."""
    return hasattr(value, "dtype") and not hasattr(value, "tocsr")


def has_pandas() -> bool:
    """Whether columns with names can be made."""
    return usable("pandas")


@contextmanager
def blamed_on_input(*errors: type[Exception]) -> Iterator[None]:
    """What a library says of rows that it cannot take, as a client's error (400)."""
    try:
        yield
    except errors as error:
        raise InvalidInput(f"The model does not take this input: {first_line(error)}") from error


def first_line(error: BaseException) -> str:
    """What an error says, without the native stack trace that some libraries put below."""
    return next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
