from __future__ import annotations

import io
import json
import math
from datetime import date
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from handlers.data.codecs import DECODERS, ENCODERS, decode, encode
from handlers.errors import InvalidInput, InvalidOutput, NotAcceptable, UnsupportedContentType

JSON = "application/json"


def npy(array: Any) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array, allow_pickle=True)
    return stream.getvalue()


def test_a_list_of_numbers_in_json_becomes_an_array() -> None:
    value = decode(b"[[1, 2.5], [3, 4]]", JSON)
    assert isinstance(value, np.ndarray)
    assert value.tolist() == [[1.0, 2.5], [3.0, 4.0]]


@pytest.mark.parametrize(
    "value", [{"a": [1]}, ["a", "b"], [[1], [2, 3]], [1, None], [1, "a"], "text", 7, None, [2**70]]
)
def test_json_that_is_no_array_of_numbers_stays_as_it_is(value: Any) -> None:
    assert decode(json.dumps(value).encode(), JSON) == value


def test_no_content_type_means_json() -> None:
    assert decode(b"[1]", "").tolist() == [1]


def test_content_type_ignores_case_and_honours_the_charset() -> None:
    assert decode('"é"'.encode("latin-1"), "Application/JSON; Charset=latin-1") == "é"
    assert decode("é".encode("utf-16"), "text/plain; charset=utf-16") == "é"


def test_nan_is_understood_in_requests() -> None:
    assert math.isnan(decode(b"[NaN, 1]", JSON)[0])


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
        lambda inner: st.dictionaries(st.text(), inner) | st.lists(inner),
    )
)
def test_json_means_what_it_means_to_python(value: Any) -> None:
    assert decode(json.dumps({"key": value}).encode(), JSON) == {"key": value}


@given(st.text(alphabet='[]{},:"\\-+.eE019 \tntrueINalsfy', max_size=12))
def test_text_is_json_when_python_says_so(text: str) -> None:
    try:
        expected = json.loads(text)
    except ValueError as error:
        with pytest.raises(InvalidInput) as caught:
            decode(text.encode(), JSON)
        assert caught.value.message == f"The body is not valid JSON: {error}"
    else:
        value = decode(text.encode(), JSON)
        assert repr(getattr(value, "tolist", lambda: value)()) == repr(_as_array(expected))


def _as_array(value: Any) -> Any:
    """What becomes of a list once its numbers are of one type."""
    array = np.array(value) if isinstance(value, list) else None
    return value if array is None or array.dtype.kind not in "biuf" else array.tolist()


@pytest.mark.parametrize(
    "text", ["1e400", '"\\ud800"', "-Infinity", "9" * 4000, "-0", '{"a":1,"a":2}']
)
def test_json_beyond_the_standard_is_pythons(text: str) -> None:
    assert decode(text.encode(), JSON) == json.loads(text)


@pytest.mark.parametrize("content_type", ["application/jsonlines", "application/x-ndjson"])
def test_json_lines_are_rows(content_type: str) -> None:
    assert decode(b"[1, 2]\n\n[3, 4]\n", content_type).tolist() == [[1, 2], [3, 4]]
    assert decode(b'{"a": 1}\n{"a": 2}', content_type) == [{"a": 1}, {"a": 2}]


def test_csv_is_a_table_even_with_one_row_or_one_column() -> None:
    assert decode(b"1,2,3", "text/csv").tolist() == [[1, 2, 3]]
    assert decode(b"1\r\n2\r\n", "text/csv").tolist() == [[1], [2]]


def test_an_empty_csv_cell_is_nan() -> None:
    assert np.isnan(decode(b"1,,3\n", "text/csv")).tolist() == [[False, True, False]]


def test_npy_keeps_shape_order_and_type_and_is_writable() -> None:
    array = np.asfortranarray(np.arange(6, dtype=np.int16).reshape(2, 3))
    value = decode(npy(array), "application/x-npy")
    assert value.dtype == np.int16
    assert value.tolist() == array.tolist()
    value[0, 0] = 9


@pytest.mark.parametrize("shape", [(), (0,), (3, 0)])
def test_npy_of_no_dimension_or_no_element_is_read(shape: tuple[int, ...]) -> None:
    assert decode(npy(np.zeros(shape)), "application/x-npy").shape == shape


def test_bytes_and_text_come_as_they_are() -> None:
    assert decode(b"\x00\xff", "application/octet-stream") == b"\x00\xff"
    assert decode("é".encode(), "text/plain") == "é"


def test_an_unknown_type_is_415_and_the_message_lists_the_known() -> None:
    with pytest.raises(UnsupportedContentType, match="application/x-npy") as caught:
        decode(b"", "image/png")
    assert caught.value.status == 415


def test_an_unknown_charset_is_415() -> None:
    with pytest.raises(UnsupportedContentType, match="klingon"):
        decode(b"[]", "application/json; charset=klingon")


@pytest.mark.parametrize(
    ("body", "content_type", "reason"),
    [
        (b"", JSON, "not valid JSON"),
        (b"{", JSON, "not valid JSON"),
        (b"[" * 100_000, JSON, "not valid JSON"),
        (b"\xff\xfe[", JSON, "not valid utf-8"),
        (b"[1]\n{", "application/jsonlines", "line 2 is not valid JSON"),
        (b"a,b\n1,2", "text/csv", "row 1 has 'a'"),
        (b"", "text/csv", "body is empty"),
        (b"\r\n\r\n", "text/csv", "body is empty"),
        (b"\n", "application/x-ndjson", "body is empty"),
        (b"1,2\n3\n", "text/csv", "row 2 has 1 cells"),
        (b'"' + b"1" * 200_000 + b'"', "text/csv", "not valid CSV"),
        (b"garbage", "application/x-npy", "not a valid NPY"),
        (b"", "application/x-npy", "not a valid NPY"),
        (npy(np.zeros(4))[:-1], "application/x-npy", "another size"),
        (npy(np.zeros(4)) + b"more", "application/x-npy", "another size"),
        (npy(np.array([{}])), "application/x-npy", "Python objects"),
    ],
)
def test_a_broken_body_is_400_and_the_message_says_what_is_wrong(
    body: bytes, content_type: str, reason: str
) -> None:
    with pytest.raises(InvalidInput, match=reason) as caught:
        decode(body, content_type)
    assert caught.value.status == 400


def test_an_npy_header_cannot_make_us_allocate_more_than_was_sent() -> None:
    header = npy(np.zeros(1)).replace(b"(1,)", b"(9999999999999,)")
    with pytest.raises(InvalidInput):
        decode(header, "application/x-npy")


@pytest.mark.parametrize("value", [np.array([1.5, 2]), torch.tensor([1.5, 2]), [1.5, 2.0]])
def test_arrays_and_tensors_are_json_lists(value: Any) -> None:
    assert encode(value, JSON, JSON) == (b"[1.5, 2.0]", JSON)
    assert json.loads(encode({"scores": value}, "", JSON)[0]) == {"scores": [1.5, 2.0]}


def test_a_tensor_with_a_gradient_can_be_sent() -> None:
    value = torch.ones(2, requires_grad=True)
    assert encode(value, JSON, JSON)[0] == b"[1.0, 1.0]"
    assert decode(*encode(value, "application/x-npy", JSON)).tolist() == [1, 1]


def test_scalars_of_numpy_are_numbers() -> None:
    assert encode({"a": np.float32(0.5), "b": np.int64(2)}, JSON, JSON)[0] == b'{"a": 0.5, "b": 2}'


@pytest.mark.parametrize(
    "value", [[math.nan, 1.0], np.array([np.nan, 1]), torch.tensor([math.inf, 1])]
)
def test_what_is_not_finite_is_null_in_json(value: Any) -> None:
    assert encode(value, JSON, JSON)[0] == b"[null, 1.0]"
    assert encode({"a": (value,)}, JSON, JSON)[0] == b'{"a": [[null, 1.0]]}'


def test_csv_writes_rows_and_a_flat_list_one_value_a_line() -> None:
    assert encode(np.array([[1.5, 2], [3, 4]]), "text/csv", JSON)[0] == b"1.5,2.0\n3.0,4.0\n"
    assert encode([1, "a,b", None], "text/csv", JSON)[0] == b'1\n"a,b"\n""\n'
    assert encode([torch.tensor([1, 2]), [3, np.int8(4)]], "text/csv", JSON)[0] == b"1,2\n3,4\n"
    assert encode(7, "text/csv", JSON)[0] == b"7\n"


def test_json_lines_writes_one_row_a_line() -> None:
    body, _ = encode(np.array([[1, 2], [3, 4]]), "application/jsonlines", JSON)
    assert body == b"[1, 2]\n[3, 4]\n"
    assert encode({"a": 1}, "application/x-ndjson", JSON)[0] == b'{"a": 1}\n'


def test_npy_keeps_the_type_of_a_tensor() -> None:
    body, content_type = encode(torch.ones(2, dtype=torch.float32), "application/x-npy", JSON)
    assert decode(body, content_type).dtype == np.float32


def test_text_is_str_and_numbers_only() -> None:
    assert encode("é", "text/plain", JSON)[0] == "é".encode()
    assert encode(np.float64(0.5), "text/plain", JSON)[0] == b"0.5"
    with pytest.raises(NotAcceptable, match="list cannot be text/plain"):
        encode([1], "text/plain", JSON)


def test_a_type_that_cannot_hold_the_value_gives_way_to_the_next() -> None:
    assert encode({"a": 1}, "application/x-npy, text/csv, application/json", JSON)[1] == JSON
    assert encode(b"\x00", "", JSON) == (b"\x00", "application/octet-stream")


@pytest.mark.parametrize(
    ("value", "accept"),
    [
        ([1], "image/png"),
        (["a", {}], "application/x-npy"),
        ([[1], [2, 3]], "application/x-npy"),
        ([[[1]]], "text/csv"),
        ([{"a": 1}], "text/csv"),
        ("text", "application/octet-stream"),
    ],
)
def test_nothing_acceptable_is_406_and_the_message_lists_what_is(value: Any, accept: str) -> None:
    with pytest.raises(NotAcceptable, match="supported are: application/json") as caught:
        encode(value, accept, JSON)
    assert caught.value.status == 406


def test_values_that_contain_themselves_are_refused() -> None:
    value: list[Any] = [math.nan]
    value.append(value)
    with pytest.raises(InvalidOutput):
        encode(value, JSON, JSON)


@pytest.mark.parametrize("accept", ["", "*/*", JSON, "text/csv", "text/csv, application/x-npy"])
@pytest.mark.parametrize("value", [{"at": date(2020, 1, 1)}, [date(2020, 1, 1)], {1, 2}, object()])
def test_what_no_client_could_be_sent_is_the_models_fault_with_the_reason(
    value: Any, accept: str
) -> None:
    with pytest.raises(InvalidOutput, match=r"(date|set|object) is not JSON") as caught:
        encode(value, accept, JSON)
    assert caught.value.status == 500
    assert "octet-stream" not in caught.value.message


def test_every_type_that_can_be_sent_can_be_received() -> None:
    assert set(DECODERS) == set(ENCODERS)
