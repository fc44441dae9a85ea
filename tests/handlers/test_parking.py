"""Which models can leave their GPU, and how."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from handlers.errors import DeviceOutOfMemory, ModelLoadError, ParkingFailed
from handlers.inspection import inspect_model
from handlers.interfaces.user_errors import prediction_error
from handlers.parking import free_device_cache
from handlers.service import LoadedModel, load_service
from handlers.types import HandlerOptions, Request, Resources, Response

from ..contract.endpoint import BEHAVIOURS

Make = Callable[..., Path]
ON_GPU = Resources(1, 0)

PARKS = """
moves = []
def model_fn(model_dir): return "model"
def transform_fn(model, body, content_type, accept): return ",".join(moves)
def park_fn(model): moves.append(f"park {model}")
async def restore_fn(model, context): moves.append(f"restore {context.model_name}")
"""
FAILS = """
def model_fn(model_dir): return None
def transform_fn(model, body, content_type, accept): return body
def park_fn(model): raise %s
def restore_fn(model): pass
"""
TORCHSERVE = """
from ts.torch_handler.base_handler import BaseHandler
class Handler(BaseHandler):
    moves = []
    def initialize(self, context): pass
    def handle(self, data, context): return [self.moves for _ in data]
    def park(self): self.moves.append("park")
    def restore(self): self.moves.append("restore")
"""


def loaded(model_dir: Path, options: HandlerOptions, resources: Resources = ON_GPU) -> LoadedModel:
    plan = inspect_model(model_dir, options)
    return load_service(plan, model_name="m", options=options, resources=resources)


def script(code: str) -> dict[str, str]:
    return {"code/inference.py": code}


def test_a_script_says_itself_how_it_is_parked(make: Make, options: HandlerOptions) -> None:
    model = loaded(make(script(PARKS)), options)
    assert model.parking is not None
    model.park()
    model.restore()
    assert model.invoke(Request(b"")).body == b"park model,restore m"


def test_so_does_a_custom_service(tmp_path: Path, options: HandlerOptions) -> None:
    shutil.copytree(BEHAVIOURS / "parks_by_methods", tmp_path / "model")
    model = loaded(tmp_path / "model", options)
    model.park()
    model.restore()
    assert model.invoke(Request(b"")).body == b'["park", "restore m"]'


def test_so_does_a_handler_of_torchserve(make: Make, options: HandlerOptions) -> None:
    manifest = '{"model": {"handler": "handler.py", "modelName": "m"}, "archiverVersion": "0.12.0"}'
    files = {"MAR-INF/MANIFEST.json": manifest, "handler.py": TORCHSERVE}
    model = loaded(make(files), options)
    model.park()
    model.restore()
    assert model.invoke(Request(b"")).body == b'["park", "restore"]'


def test_a_model_on_the_cpu_has_nothing_to_leave(make: Make, options: HandlerOptions) -> None:
    model = loaded(make(script(PARKS)), options, Resources())
    assert model.parking is None
    with pytest.raises(ParkingFailed, match="not on a GPU"):
        model.park()


def test_a_model_that_says_nothing_and_has_no_weights_of_pytorch_cannot_be_parked(
    options: HandlerOptions,
) -> None:
    assert loaded(BEHAVIOURS / "echo", options).parking is None


def test_both_functions_or_none(make: Make, options: HandlerOptions) -> None:
    code = PARKS.replace("async def restore_fn", "async def restore")
    with pytest.raises(ModelLoadError, match="both park_fn and restore_fn"):
        loaded(make(script(code)), options, Resources())


@pytest.mark.parametrize(
    ("raised", "status", "said"),
    [
        ('ValueError("no")', 500, "ValueError: no"),
        ('MemoryError("pins")', 507, "MemoryError: pins"),
    ],
)
def test_what_its_functions_raise_is_told(
    make: Make, options: HandlerOptions, raised: str, status: int, said: str
) -> None:
    model = loaded(make(script(FAILS % raised)), options)
    with pytest.raises(ParkingFailed) as caught:
        model.park()
    assert (caught.value.status, caught.value.message) == (status, said)


def test_objects_that_do_not_like_to_be_looked_at_are_not_parked(
    make: Make, options: HandlerOptions
) -> None:
    code = """
import torch
class Shy:
    def __getattribute__(self, name): raise RuntimeError(name)
def model_fn(model_dir): return [Shy()]
def transform_fn(model, body, content_type, accept): return body
"""
    assert loaded(make(script(code)), options).parking is None


class OutOfMemoryError(RuntimeError):
    """As torch.cuda has one."""


class OrtError(Exception):
    """As ONNX Runtime has them: no RuntimeError."""


@pytest.mark.parametrize(
    "error",
    [
        OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
        RuntimeError("CUDA error: out of memory"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling cublasCreate(handle)"),
        OrtError("CUDA failure 2: out of memory ; GPU=0 ; hostname=h"),
    ],
)
def test_a_full_device_is_an_error_of_its_own(error: Exception) -> None:
    found = prediction_error(error)
    assert isinstance(found, DeviceOutOfMemory)
    assert (found.status, found.kind) == (507, "DeviceOutOfMemoryException")


@pytest.mark.parametrize(
    "error",
    [
        MemoryError("CUDA out of memory"),
        ValueError("CUDA out of memory"),
        RuntimeError("[enforce fail] DefaultCPUAllocator: not enough memory"),
        OSError(12, "Cannot allocate memory"),
    ],
)
def test_a_host_without_memory_is_not(error: Exception) -> None:
    assert not isinstance(prediction_error(error), DeviceOutOfMemory)


def test_in_a_batch_only_the_request_that_was_too_large_finds_the_device_full(
    make: Make, options: HandlerOptions
) -> None:
    code = """
def handle(data, context):
    if data and any(row["body"] == b"big" for row in data):
        raise RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB")
    return [bytes(row["body"]) for row in data or ()]
"""
    model = loaded(make({**script(code), "modelyard.toml": "batch_size = 8"}), options)
    small, big = model.invoke_batch([Request(b"small"), Request(b"big")])
    assert isinstance(small, Response)
    assert small.body == b"small"
    assert isinstance(big, DeviceOutOfMemory)


def test_without_a_device_there_is_no_cache_to_free() -> None:
    free_device_cache()
