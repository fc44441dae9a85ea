"""What a model's own code raised, as an error for the client.

Told by shape and not by class: the packages whose exceptions these are (sagemaker_inference, mms)
need not be installed, and a model's code may hold a second copy of ours.
"""

from __future__ import annotations

import errno
import re
import resource
import sys

from handlers.errors import DeviceOutOfMemory, HandlerError, ModelLoadError, PredictionFailed

INSUFFICIENT_STORAGE = 507

# How pickle says that a module has no such class or function.
_LOST = re.compile(r"Can't get attribute '([\w.]+)' on <module '([\w.]+)'")

# Packages whose common modules lie in handlers/compat: module and what to install.
OURS_IN_PART = {
    "mms": "multi-model-server",
    "sagemaker_containers": "sagemaker-containers",
    "sagemaker_huggingface_inference_toolkit": "sagemaker-huggingface-inference-toolkit",
    "sagemaker_inference": "sagemaker-inference",
    "sagemaker_mxnet_serving_container": "sagemaker-mxnet-inference",
    "sagemaker_pytorch_serving_container": "sagemaker-pytorch-inference",
    "sagemaker_xgboost_container": "sagemaker-xgboost-container",
    "ts": "torchserve",
}

# How libraries say that a GPU's memory is short, in a RuntimeError or a class of their own.
DEVICE_PHRASES = (
    "CUDA out of memory",  # PyTorch
    "CUDA error: out of memory",
    "CUDA failure 2: out of memory",  # ONNX Runtime
    "CUBLAS_STATUS_ALLOC_FAILED",
    "CUDNN_STATUS_ALLOC_FAILED",
    "cudaErrorMemoryAllocation",  # XGBoost
)

# What telling of an error takes, source lines of its traceback included, with a lot to spare.
_ROOM_BYTES = 4 << 20

# How native libraries say that memory is short, in a RuntimeError or ImportError.
OUT_OF_MEMORY_PHRASES = (
    "DefaultCPUAllocator",
    "unable to mmap",
    "std::bad_alloc",
    "failed to map segment from shared object",  # the import of a library
)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether the error means that there was not enough memory, on the host or on a device."""
    if isinstance(error, MemoryError):
        return True
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    if is_device_out_of_memory(error):
        return True
    text = _text(error) if isinstance(error, RuntimeError | ImportError) else ""
    return any(phrase in text for phrase in OUT_OF_MEMORY_PHRASES)


def is_device_out_of_memory(error: BaseException) -> bool:
    """Whether the error means that a GPU, and not the host, had not enough memory."""
    if type(error).__module__ == "builtins" and not isinstance(error, RuntimeError):
        return False
    text = _text(error)
    return any(phrase in text for phrase in DEVICE_PHRASES)


def describe(error: BaseException) -> str:
    """``TypeName: text``, with the notes that were added to the error in brackets."""
    message = getattr(error, "message", None)
    text = message if isinstance(message, str) else _text(error)
    notes = "".join(f" ({note})" for note in getattr(error, "__notes__", ()))
    return (f"{type(error).__name__}: {text}" if text else type(error).__name__) + notes


def _text(error: BaseException) -> str:
    """What the error says; its author's own ``__str__`` may fail too."""
    try:
        return str(error)
    except Exception as second:
        return f"(its __str__ raised {type(second).__name__})"


def load_error(error: Exception) -> ModelLoadError:
    """The error of a load that the model's code failed; raise it ``from`` the original."""
    _make_room(error)
    if isinstance(error, ModelLoadError):
        return error
    if is_out_of_memory(error):
        return ModelLoadError(describe(error) + _limit(), status=INSUFFICIENT_STORAGE)
    return ModelLoadError(_of_main(error) or describe(error) + _advice(error))


def prediction_error(error: Exception) -> HandlerError:
    """The error of a request that the model's code failed; raise it ``from`` the original."""
    _make_room(error)
    if isinstance(error, HandlerError):
        return error
    if is_device_out_of_memory(error):
        return DeviceOutOfMemory(describe(error))
    if is_out_of_memory(error):
        return PredictionFailed(describe(error) + _limit(), status=INSUFFICIENT_STORAGE)
    status = chosen_status(error)
    message = getattr(error, "message", None)
    if status is not None and isinstance(message, str):
        return PredictionFailed(message, status=status)  # the author's words for the client
    return PredictionFailed(describe(error), status=status)


def _limit() -> str:
    """What to say of the limit of this process, if it has one."""
    limit = resource.getrlimit(resource.RLIMIT_DATA)[0]
    if limit == resource.RLIM_INFINITY:
        return ""
    return (
        f". The process may take {limit >> 20} MiB in all: its max_memory_bytes or, without it, "
        "what all models have together (MODELYARD_MEMORY_LIMIT_BYTES), and some slack"
    )


def _make_room(error: Exception) -> None:
    """Let a process that has used up its limit of memory say so: that takes some, too."""
    if not isinstance(error, MemoryError):
        return
    try:
        bytearray(_ROOM_BYTES)
    except MemoryError:
        soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
        if soft != resource.RLIM_INFINITY:
            more = soft + _ROOM_BYTES
            more = more if hard == resource.RLIM_INFINITY else min(more, hard)
            resource.setrlimit(resource.RLIMIT_DATA, (more, hard))


def failure(error: Exception) -> HandlerError:
    """``prediction_error`` with its cause, for an error that is handed over instead of raised."""
    found = prediction_error(error)
    if found is not error:
        found.__cause__ = error
    return found


def chosen_status(error: Exception) -> int | None:
    """The status that the model's author gave the error, if it is one that says "failed".

    ``status_code`` is what sagemaker_inference's errors carry, ``error_code`` what
    multi-model-server's PredictionException does, ``status`` with ``kind`` is ours.
    """
    names = ["status_code"]
    names += ["error_code"] if hasattr(error, "message") else []
    names += ["status"] if hasattr(error, "kind") else []
    for name in names:
        status = getattr(error, name, None)
        if isinstance(status, int) and 400 <= status <= 599:
            return status
    return None


def _of_main(error: Exception) -> str | None:
    """What to say of a pickle that looks for a class in ``__main__``, which here is the server."""
    found = _LOST.search(_text(error)) if isinstance(error, AttributeError) else None
    spec = getattr(sys.modules.get("__main__"), "__spec__", None)
    if found is None or found[2] not in ("__main__", getattr(spec, "name", None)):
        return None
    notes = "".join(f" ({note})" for note in getattr(error, "__notes__", ()))
    return (
        f"{found[1]} is not here{notes}. It was defined in the script or notebook that saved the "
        "model, so the file looks for it in __main__. Define it in the model's script, "
        "code/inference.py; or move it to a module of its own, put that file into code/, and save "
        "the model again with it imported from there"
    )


def _advice(error: Exception) -> str:
    """What to do about the traps that models fall into most often."""
    if any("was saved with" in note for note in getattr(error, "__notes__", ())):
        return ""  # by another version: that is it
    if isinstance(error, ModuleNotFoundError):
        package = (error.name or "").partition(".")[0]
        if package in OURS_IN_PART and error.name != package:
            return (
                f". Of {OURS_IN_PART[package]} the server has only the common parts; name the "
                "package in code/requirements.txt"
            )
        return (
            ". If it is a file of yours, put it into the model's code/ directory; if it is a "
            "package, install it in the image"
        )
    return ""
