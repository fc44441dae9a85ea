from __future__ import annotations

import errno

import pytest
import torch

from handlers.errors import InvalidInput, ModelLoadError, PredictionFailed
from handlers.interfaces.user_errors import load_error, prediction_error


class WithStatus(Exception):
    """Shaped like sagemaker_inference's errors."""

    def __init__(self, status_code: object, message: str) -> None:
        super().__init__(status_code, message)
        self.status_code, self.message = status_code, message


class PredictionException(Exception):
    """Shaped like multi-model-server's."""

    def __init__(self, message: str, error_code: object = 500) -> None:
        super().__init__(message)
        self.message, self.error_code = message, error_code


class OurErrorAgain(Exception):
    """Shaped like an error from a second copy of this package."""

    status, kind, message = 415, "UnsupportedMediaTypeException", "no"


def real_torch_failure() -> RuntimeError:
    with pytest.raises(RuntimeError) as caught:
        torch.empty(1 << 60)
    return caught.value


SHORT_OF_MEMORY = [
    MemoryError(),
    RuntimeError("CUDA out of memory. Tried to allocate 2 GiB"),
    RuntimeError("unable to mmap 400 bytes from file <model.pt>: Cannot allocate memory (12)"),
    ImportError("x.so: failed to map segment from shared object"),
    OSError(errno.ENOMEM, "Cannot allocate memory"),
]


@pytest.mark.parametrize("error", SHORT_OF_MEMORY, ids=repr)
def test_lack_of_memory_is_507_at_load_and_at_prediction(error: Exception) -> None:
    assert load_error(error).status == 507
    assert prediction_error(error).status == 507


def test_lack_of_memory_as_torch_says_it_is_507() -> None:
    assert prediction_error(real_torch_failure()).status == 507


@pytest.mark.parametrize(
    "error", [ValueError("CUDA out of memory"), RuntimeError("x"), OSError(2, "x")]
)
def test_other_errors_are_500_with_type_and_text(error: Exception) -> None:
    failed = prediction_error(error)
    assert isinstance(failed, PredictionFailed)
    assert (failed.status, failed.message) == (500, f"{type(error).__name__}: {error}")
    assert load_error(error).message == f"{type(error).__name__}: {error}"


def test_an_error_without_text_is_its_type() -> None:
    assert prediction_error(ValueError()).message == "ValueError"


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (WithStatus(422, "too long"), 422),
        (PredictionException("too long", 513), 513),
        (OurErrorAgain(), 415),
    ],
)
def test_a_status_chosen_by_the_author_is_honoured(error: Exception, status: int) -> None:
    failed = prediction_error(error)
    assert failed.status == status
    assert failed.message in ("too long", "no")


@pytest.mark.parametrize("status", [200, 399, 600, "404", None])
def test_a_status_that_is_no_failure_is_not(status: object) -> None:
    assert prediction_error(WithStatus(status, "text")).status == 500
    assert prediction_error(PredictionException("text", status)).status == 500


def test_our_own_errors_stay_as_they_are() -> None:
    invalid, failed = InvalidInput("x"), ModelLoadError("x", status=400)
    assert prediction_error(invalid) is invalid
    assert load_error(failed) is failed


def test_a_load_does_not_take_a_status_from_the_error() -> None:
    """A 404 of some web service that model_fn called is not "no such model"."""
    assert load_error(WithStatus(404, "x")).status == 500


def test_a_missing_module_comes_with_advice() -> None:
    error = ModuleNotFoundError("No module named 'helper'", name="helper")
    assert "put it into the model's code/ directory" in load_error(error).message


def test_an_exception_that_cannot_be_told_is_told_by_its_type() -> None:
    class Broken(RuntimeError):
        def __str__(self) -> str:
            raise ValueError("no text")

    assert prediction_error(Broken()).message == "Broken: (its __str__ raised ValueError)"
    assert load_error(Broken()).message == "Broken: (its __str__ raised ValueError)"
