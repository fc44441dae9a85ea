from __future__ import annotations

import json
import struct
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from handlers.data import v2
from handlers.errors import HandlerError, InvalidInput, InvalidOutput, NotAcceptable
from handlers.types import Headers, Request, Response

SAGEMAKER = "application/vnd.sagemaker-triton.binary+json;json-header-size="


def request(document: Any, tail: bytes = b"", **headers: str) -> Request:
    """A request with a JSON header and what is behind it."""
    head = document if isinstance(document, bytes) else json.dumps(document).encode()
    if tail and not headers:
        headers = {"content_type": f"{SAGEMAKER}{len(head)}"}
    pairs = tuple((name.replace("_", "-"), value) for name, value in headers.items())
    return Request(head + tail, Headers(pairs))


def tensor(data: Any, datatype: str = "FP32", shape: Any = None, **more: Any) -> dict[str, Any]:
    shape = [len(data)] if shape is None else shape
    return {"name": "x", "shape": shape, "datatype": datatype, "data": data, **more}


def answer(outputs: dict[str, Any], asked: Request) -> Response:
    return v2.write(asked, v2.read(asked), outputs, model_name="m", version="1")


@pytest.mark.parametrize(
    ("datatype", "data", "dtype"),
    [
        ("FP32", [1, 2.5], "float32"),
        ("FP64", [1, 2.5], "float64"),
        ("FP16", [1, 2.5], "float16"),
        ("INT64", [1, -(2**63)], "int64"),
        ("UINT64", [1, 2**64 - 1], "uint64"),
        ("INT8", [-128, 127], "int8"),
        ("BOOL", [True, False], "bool"),
        ("BYTES", ["a", "é"], "object"),
    ],
)
def test_types_of_json(datatype: str, data: list[Any], dtype: str) -> None:
    array = v2.read(request({"inputs": [tensor(data, datatype)]})).inputs["x"]
    assert array.dtype.name == dtype
    assert array.tolist() == ([b"a", "é".encode()] if datatype == "BYTES" else data)


def test_data_may_be_flat_or_nested() -> None:
    flat = v2.read(request({"inputs": [tensor([1, 2, 3, 4], shape=[2, 2])]})).inputs["x"]
    nested = v2.read(request({"inputs": [tensor([[1, 2], [3, 4]], shape=[2, 2])]})).inputs["x"]
    assert flat.tolist() == nested.tolist() == [[1, 2], [3, 4]]
    flat[0, 0] = 9  # arrays are the model's own


@given(st.sampled_from([name for name in v2.DTYPES if name != "BYTES"]), st.integers(0, 5))
def test_bytes_of_numbers_come_back(datatype: str, count: int) -> None:
    array = np.arange(count).astype(v2.DTYPES[datatype])
    again = v2.from_bytes(v2.to_bytes(array), datatype, [count], "x")
    assert again.dtype == array.dtype
    assert (again == array).all()


@given(st.lists(st.binary(max_size=5), max_size=5))
def test_bytes_of_texts_come_back(items: list[bytes]) -> None:
    array = np.empty(len(items), dtype=object)
    array[:] = items
    assert v2.from_bytes(v2.to_bytes(array), "BYTES", [len(items)], "x").tolist() == items


def test_a_binary_request_of_sagemakers_client_is_answered_alike() -> None:
    head = {
        "id": "7",
        "inputs": [
            {"name": "x", "shape": [2], "datatype": "FP32", "parameters": {"binary_data_size": 8}},
            tensor([5], "INT32") | {"name": "n"},
        ],
        "outputs": [
            {"name": "y", "parameters": {"binary_data": True}},
            {"name": "n", "parameters": {"binary_data": False}},
        ],
    }
    asked = request(head, struct.pack("<2f", 1, 2))
    call = v2.read(asked)
    assert call.inputs["x"].tolist() == [1, 2]
    response = answer({"y": call.inputs["x"] * 2, "n": call.inputs["n"]}, asked)
    size = int(response.content_type.removeprefix(SAGEMAKER))
    assert json.loads(response.body[:size]) == {
        "id": "7",
        "model_name": "m",
        "model_version": "1",
        "outputs": [
            {"name": "y", "datatype": "FP32", "shape": [2], "parameters": {"binary_data_size": 8}},
            {"name": "n", "datatype": "INT32", "shape": [1], "data": [5]},
        ],
    }
    assert struct.unpack("<2f", response.body[size:]) == (2, 4)


def test_a_binary_request_of_tritons_client_is_answered_alike() -> None:
    head = json.dumps(
        {
            "inputs": [
                {
                    "name": "x",
                    "shape": [1],
                    "datatype": "INT8",
                    "parameters": {"binary_data_size": 1},
                }
            ],
            "parameters": {"binary_data_output": True, "mine": 1},
        }
    ).encode()
    asked = request(
        head,
        b"\x07",
        content_type="application/octet-stream",
        inference_header_content_length=str(len(head)),
    )
    assert v2.read(asked).parameters == {"mine": 1}
    response = answer({"y": np.array([7], dtype="int8")}, asked)
    assert response.content_type == "application/octet-stream"
    ((name, size),) = response.headers
    assert name == "Inference-Header-Content-Length"
    assert response.body[int(size) :] == b"\x07"


def test_json_is_answered_with_json() -> None:
    outputs = {
        "n": np.array([[1.5, np.nan]], dtype="float32"),
        "t": np.array([b"a", "b"], dtype=object),
        "u": np.array(["c"]),
    }
    response = answer(outputs, request({"inputs": []}))
    assert response.content_type == "application/json"
    assert json.loads(response.body)["outputs"] == [
        {"name": "n", "datatype": "FP32", "shape": [1, 2], "data": [1.5, None]},
        {"name": "t", "datatype": "BYTES", "shape": [2], "data": ["a", "b"]},
        {"name": "u", "datatype": "BYTES", "shape": [1], "data": ["c"]},
    ]


def test_a_body_of_nothing_but_bytes() -> None:
    asked = request(b"", b"1234", inference_header_content_length="0")
    call = v2.read(asked)
    assert call.raw == b"1234"
    assert call.binary


@pytest.mark.parametrize(
    ("document", "told"),
    [
        (b"{", "not valid JSON"),
        ([1], "V2 inference protocol"),
        ({"instances": []}, "V2 inference protocol"),
        ({"inputs": {}}, "inputs must be a list of objects"),
        ({"inputs": [1]}, "inputs must be a list of objects"),
        ({"inputs": [{}]}, "must have a name"),
        ({"inputs": [tensor([1]), tensor([1])]}, "'x' is there twice"),
        ({"inputs": [tensor([1], "FP8")]}, "datatype of 'x' must be one of BOOL"),
        ({"inputs": [tensor([1], shape=[-1])]}, "shape of 'x' must be a list of whole numbers"),
        ({"inputs": [tensor([1], shape="1")]}, "shape of 'x' must be a list of whole numbers"),
        ({"inputs": [tensor([1, 2], shape=[3])]}, "are not FP32 of shape [3]"),
        ({"inputs": [tensor(["a"])]}, "of another type"),
        ({"inputs": [tensor([1.5], "INT32")]}, "of another type"),
        ({"inputs": [tensor([300], "UINT8")]}, "out of range"),
        ({"inputs": [tensor([-1], "UINT8")]}, "out of range"),
        ({"inputs": [tensor([2**70], "INT64")]}, "too large"),
        ({"inputs": [tensor([[1], [2, 3]], shape=[3])]}, "are not FP32 of shape [3]"),
        ({"inputs": [tensor([1], "BYTES")]}, "texts are wanted"),
        ({"inputs": [tensor("abc")]}, "has no data"),
        ({"inputs": [], "id": 3}, "id must be text"),
        ({"inputs": [], "parameters": 3}, "parameters must be an object"),
        ({"inputs": [], "outputs": 3}, "outputs must be a list"),
        (
            {"inputs": [], "outputs": [{"name": "y", "parameters": {"classification": 3}}]},
            "classification extension",
        ),
        ({"inputs": [tensor([1], parameters={"shared_memory_region": "r"})]}, "Shared memory"),
        ({"inputs": [tensor([1], parameters={"binary_data_size": 4})]}, "0 are left of the body"),
        ({"inputs": [tensor([1], parameters={"binary_data_size": -4})]}, "must be a whole number"),
    ],
)
def test_what_is_wrong_with_a_request_is_told(document: Any, told: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        v2.read(request(document))
    assert told in caught.value.message


@pytest.mark.parametrize(
    ("tail", "size", "datatype", "told"),
    [
        (b"12345", 4, "FP32", "1 bytes of the body belong to no input"),
        (b"123", 3, "FP32", "has 3 bytes; FP32 of shape [1] has 4"),
        (b"\x05\x00\x00\x00ab", 6, "BYTES", "are cut off"),
        (b"\x00\x00\x00\x00\x00\x00\x00\x00", 8, "BYTES", "holds 2 texts, its shape 1"),
    ],
)
def test_bytes_that_do_not_fit(tail: bytes, size: int, datatype: str, told: str) -> None:
    described = tensor(None, datatype, [1], parameters={"binary_data_size": size})
    with pytest.raises(InvalidInput) as caught:
        v2.read(request({"inputs": [described]}, tail))
    assert told in caught.value.message


@pytest.mark.parametrize(
    ("headers", "status", "told"),
    [
        ({"content_type": "text/csv"}, 415, "this is a model of Triton"),
        ({"content_type": f"{SAGEMAKER}999"}, 400, "the body has 14 bytes"),
        ({"content_type": f"{SAGEMAKER}x"}, 400, "is 'x'"),
        ({"content_type": SAGEMAKER.partition(";")[0]}, 400, "json-header-size=N"),
        ({"inference_header_content_length": "-1"}, 400, "is '-1'"),
    ],
)
def test_the_headers_length_is_checked(headers: dict[str, str], status: int, told: str) -> None:
    with pytest.raises(HandlerError) as caught:
        v2.read(request({"inputs": []}, b"", **headers))
    assert caught.value.status == status
    assert told in caught.value.message


def test_outputs_that_cannot_be_sent() -> None:
    asked = request({"inputs": [], "outputs": [{"name": "y"}]})
    with pytest.raises(InvalidOutput, match="gave no output 'y'"):
        answer({}, asked)
    with pytest.raises(InvalidOutput, match="of complex128"):
        answer({"y": np.array([1j])}, asked)
    with pytest.raises(NotAcceptable, match="no text"):
        answer({"y": np.array([b"\xff"], dtype=object)}, asked)


@given(st.binary(max_size=60), st.integers(0, 60))
def test_any_body_is_read_or_refused(body: bytes, size: int) -> None:
    asked = Request(body, Headers((("Content-Type", f"{SAGEMAKER}{size}"),)))
    try:
        v2.read(asked)
    except HandlerError as error:
        assert error.status == 400
