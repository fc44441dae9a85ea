from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from handlers.errors import InvalidInput
from handlers.frameworks.parts.tensorflow_serving import (
    by_name,
    plain_outputs,
    row_by_row,
    signature_of,
    with_bytes,
)


@pytest.mark.parametrize(
    ("data", "names", "expected"),
    [
        ([1, 2], ["x"], {"x": [1, 2]}),
        ({"x": 1, "y": 2}, ["y", "x"], {"x": 1, "y": 2}),
        ([{"x": 1, "y": 2}, {"y": 4, "x": 3}], ["x", "y"], {"x": [1, 3], "y": [2, 4]}),
        ([], ["x"], {"x": []}),
    ],
)
def test_values_go_to_the_inputs_by_name(
    data: Any, names: list[str], expected: dict[str, Any]
) -> None:
    assert by_name(data, names) == expected


@pytest.mark.parametrize(
    ("data", "names", "reason"),
    [
        ([1, 2], ["x", "y"], "takes the inputs x, y"),
        ({"x": 1}, ["x", "y"], "takes the inputs x, y"),
        ({"x": 1, "z": 1}, ["x"], "takes the inputs x"),
        ([{"x": 1}, {"y": 1}], ["x"], "the same names"),
    ],
)
def test_names_that_do_not_fit_are_told(data: Any, names: list[str], reason: str) -> None:
    with pytest.raises(InvalidInput, match=reason):
        by_name(data, names)


def test_base64_stands_for_bytes_wherever_it_is() -> None:
    assert with_bytes([{"b64": "AQI="}, {"a": {"b64": "AQI="}}]) == [b"\1\2", {"a": b"\1\2"}]
    assert with_bytes({"b64": 5}) == {"b64": 5}
    assert with_bytes({"b64": "AQI=", "more": 1}) == {"b64": "AQI=", "more": 1}
    for text in ("!", "AQ", "\u00e4"):
        with pytest.raises(InvalidInput, match="is not base64"):
            with_bytes({"b64": text})


def test_one_output_is_alone_and_bytes_are_text_where_they_can_be() -> None:
    texts = np.array([b"a", "\u00e4".encode(), b"\xff"], dtype=object)
    assert plain_outputs({"y": texts}) == ["a", "\u00e4", {"b64": "/w=="}]
    numbers = np.ones(2)
    assert plain_outputs({"y": numbers}) is numbers
    assert plain_outputs({"y": numbers, "z": texts}) == {
        "y": numbers,
        "z": plain_outputs({"": texts}),
    }


def test_several_outputs_become_objects_one_a_row() -> None:
    outputs = {"y": np.array([[1], [2]]), "z": ["a", "b"]}
    assert row_by_row(outputs) == [{"y": [1], "z": "a"}, {"y": [2], "z": "b"}]
    assert row_by_row([1, 2]) == [1, 2]


@pytest.mark.parametrize("other", [np.array(5), np.ones(3), "text"])
def test_outputs_without_rows_cannot_be(other: Any) -> None:
    with pytest.raises(InvalidInput, match="send inputs, not instances"):
        row_by_row({"y": np.ones(2), "z": other})
    with pytest.raises(InvalidInput, match="send inputs, not instances"):
        row_by_row({"z": other, "y": np.ones(2)})


def test_a_signature_is_a_name_or_left_out() -> None:
    assert signature_of({"signature_name": "s"}) == "s"
    assert signature_of({}) is signature_of({"signature_name": ""}) is None
    with pytest.raises(InvalidInput, match="must be a name"):
        signature_of({"signature_name": 5})
