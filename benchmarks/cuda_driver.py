"""The checkpoint functions of NVIDIA's driver, called without any package.

They take a process off its GPU, whatever library it computes with, and bring it back: lock (its
calls to CUDA wait), checkpoint (its device memory moves to its host memory), restore, unlock.
Drivers from 570 on have them: https://docs.nvidia.com/cuda/cuda-driver-api/group__CUDA__CHECKPOINT.html
"""

from __future__ import annotations

import ctypes

_LIBRARY = "libcuda.so.1"
_STEPS = ("Lock", "Checkpoint", "Restore", "Unlock")

# Each function takes a pid and a struct of 64 bytes, in which zeros are the defaults. That of Lock
# begins with a time limit in milliseconds.
_ARGUMENT_WORDS = 16


class DriverError(Exception):
    """Raised when the driver refuses, or is not there."""


class CudaDriver:
    """The library of the driver that is installed. Raises DriverError where there is none."""

    def __init__(self) -> None:
        try:
            self._library = ctypes.CDLL(_LIBRARY)
        except OSError as error:
            raise DriverError(f"{_LIBRARY} cannot be loaded: {error}") from error
        self._check("cuInit", self._library.cuInit(0))

    def version(self) -> str:
        """The version of CUDA that it supports, as "12.8"."""
        number = ctypes.c_int()
        self._check("cuDriverGetVersion", self._library.cuDriverGetVersion(ctypes.byref(number)))
        return f"{number.value // 1000}.{number.value % 1000 // 10}"

    def has_checkpoints(self) -> bool:
        """Whether it is new enough."""
        return all(hasattr(self._library, f"cuCheckpointProcess{step}") for step in _STEPS)

    def lock(self, pid: int, limit_ms: int) -> None:
        """Let the calls that the process makes to CUDA end, and further ones wait."""
        self._step("Lock", pid, limit_ms)

    def checkpoint(self, pid: int) -> None:
        """Move the device memory of a locked process to its host memory, and give it back."""
        self._step("Checkpoint", pid)

    def restore(self, pid: int) -> None:
        """Bring a process back to its GPU; it is locked still."""
        self._step("Restore", pid)

    def unlock(self, pid: int) -> None:
        """Let it go on."""
        self._step("Unlock", pid)

    def _step(self, step: str, pid: int, first_word: int = 0) -> None:
        arguments = (ctypes.c_uint32 * _ARGUMENT_WORDS)(first_word)
        function = getattr(self._library, f"cuCheckpointProcess{step}")
        self._check(f"cuCheckpointProcess{step}", function(pid, ctypes.byref(arguments)))

    def _check(self, function: str, code: int) -> None:
        if code:
            name = ctypes.c_char_p()
            self._library.cuGetErrorName(code, ctypes.byref(name))
            raise DriverError(f"{function}: {(name.value or b'unknown error').decode()} ({code})")
