"""``triton_python_backend_utils``, as models see it."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from handlers import service


@pytest.fixture
def pb(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The module, found as a model finds it."""
    monkeypatch.syspath_prepend(str(Path(service.__file__).parent / "compat"))
    return import_module("triton_python_backend_utils")


@pytest.mark.parametrize(
    ("kind", "number", "dtype"),
    [
        ("TYPE_BOOL", 1, np.bool_),
        ("TYPE_INT64", 9, np.int64),
        ("TYPE_FP32", 11, np.float32),
        ("TYPE_STRING", 13, np.object_),
    ],
)
def test_types(pb: Any, kind: str, number: int, dtype: Any) -> None:
    assert pb.triton_string_to_numpy(kind) is dtype
    assert pb.triton_to_numpy_type(number) is dtype
    assert pb.numpy_to_triton_type(dtype) == number
    assert pb.TRITON_STRING_TO_NUMPY[kind] is dtype


def test_types_that_are_none(pb: Any) -> None:
    assert pb.triton_string_to_numpy("TYPE_BF16") is None
    assert pb.numpy_to_triton_type(np.dtype("U3")) == 13
    with pytest.raises(pb.TritonModelException, match="complex128"):
        pb.numpy_to_triton_type(np.complex128)
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = pb.no_such_name


def test_tensors(pb: Any) -> None:
    array = np.ones((2, 3), dtype=np.float32)
    tensor = pb.Tensor("x", array)
    assert (tensor.name(), tensor.shape(), tensor.triton_dtype()) == ("x", [2, 3], 11)
    assert tensor.as_numpy() is array
    assert tensor.is_cpu()
    with pytest.raises(pb.TritonModelException, match="needs a numpy array"):
        pb.Tensor("x", [1])


def test_tensors_go_to_torch_and_come_back(pb: Any) -> None:
    torch: Any = import_module("torch")
    to_dlpack: Any = import_module("torch.utils.dlpack").to_dlpack
    array = np.arange(3, dtype=np.int32)
    there = torch.from_dlpack(pb.Tensor("x", array))
    assert there.tolist() == [0, 1, 2]
    for given in (there, to_dlpack(there)):
        assert pb.Tensor.from_dlpack("y", given).as_numpy().tolist() == [0, 1, 2]


def test_texts_as_bytes(pb: Any) -> None:
    texts = np.array([b"a", "é"], dtype=object)
    encoded = pb.serialize_byte_tensor(texts).item()
    assert pb.deserialize_bytes_tensor(encoded).tolist() == [b"a", "é".encode()]
    assert pb.serialize_byte_tensor(np.array([])).tolist() == []
    assert pb.serialize_byte_tensor(np.array([1])) is None


def test_requests_and_responses(pb: Any) -> None:
    x, y = pb.Tensor("x", np.ones(1)), pb.Tensor("y", np.ones(1))
    request = pb.InferenceRequest([x], ["y"], request_id="7", parameters={"a": 1}, timeout=5)
    assert pb.get_input_tensor_by_name(request, "x") is x
    assert pb.get_input_tensor_by_name(request, "z") is None
    assert request.requested_output_names() == ["y"]
    assert (request.request_id(), request.parameters(), request.timeout()) == ("7", '{"a": 1}', 5)
    assert not request.is_cancelled()
    response = pb.InferenceResponse([y])
    assert pb.get_output_tensor_by_name(response, "y") is y
    assert not response.has_error()
    failed = pb.InferenceResponse(error="bad luck")
    assert failed.error().message() == "bad luck"
    assert failed.error().code() == pb.TritonError.INTERNAL


def test_configurations(pb: Any) -> None:
    config = pb.ModelConfig('{"max_batch_size": 2, "input": [{"name": "x", "dims": [1]}]}')
    config.add_input({"name": "x", "data_type": "TYPE_FP32", "dims": [1]})
    config.add_output({"name": "y", "data_type": "TYPE_FP32", "dims": [1]})
    config.set_max_batch_size(4)
    config.set_dynamic_batching()
    config.set_model_transaction_policy({"decoupled": False})
    found = config.as_dict()
    assert found["max_batch_size"] == 2
    assert pb.get_input_config_by_name(found, "x")["data_type"] == "TYPE_FP32"
    assert pb.get_output_config_by_name(found, "y")["dims"] == [1]
    assert pb.get_output_config_by_name(found, "z") is None
    assert not pb.using_decoupled_model_transaction_policy(found)
    with pytest.raises(ValueError, match="another dims in the file"):
        config.add_input({"name": "x", "data_type": "TYPE_FP32", "dims": [2]})
    with pytest.raises(ValueError, match="has no dims"):
        config.add_input({"name": "z", "data_type": "TYPE_FP32"})
    with pytest.raises(ValueError, match="more than 1"):
        config.set_max_batch_size(1)
    with pytest.raises(pb.TritonModelException, match="decoupled"):
        config.set_model_transaction_policy({"decoupled": True})


def test_other_models_cannot_be_loaded(pb: Any) -> None:
    for function in (pb.load_model, pb.unload_model, pb.is_model_ready):
        with pytest.raises(pb.TritonModelException, match="another one here"):
            function("other")


def test_logs(pb: Any, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO", logger="triton"):
        pb.Logger.log_warn("careful")
        pb.Logger.log("plain")
        pb.Logger.log_verbose("nobody hears")
    assert [record.message for record in caplog.records] == ["careful", "plain"]
