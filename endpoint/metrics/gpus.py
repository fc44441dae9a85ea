"""The GPUs of this machine, by NVML: NVIDIA's library for asking the driver, which takes no memory.

Its Python module is an extra; where it or the driver is missing there are no GPUs.
"""

from __future__ import annotations

import importlib
import logging
from dataclasses import dataclass
from typing import Any

log = logging.getLogger("modelyard.endpoint")


@dataclass(frozen=True, slots=True)
class GpuUse:
    """One GPU: bytes of its memory, and in how much of the last moment it computed, if told."""

    index: int
    used: int
    limit: int
    utilization_percent: float | None


class Gpus:
    """Asks NVML. Blocks for milliseconds: for a thread, one at a time."""

    def __init__(self) -> None:
        self._nvml: Any = None
        self._handles: list[Any] = []
        self._absent = False
        self._failed = ""

    def read(self) -> tuple[GpuUse, ...]:
        """All GPUs in the order on the bus, as CUDA numbers them; none while they cannot be read.

        A driver that fails is tried again at the next reading.
        """
        if self._absent:
            return ()
        try:
            self._open()
            found = tuple(self._use(*each) for each in enumerate(self._handles))
        except Exception as error:  # whatever a dying driver leads to
            self._fail(error)
            return ()
        self._failed = ""
        return found

    def close(self) -> None:
        """Give the library back."""
        nvml, self._nvml = self._nvml, None
        if nvml is not None:
            try:
                nvml.nvmlShutdown()
            except nvml.NVMLError as error:  # it had failed before
                log.debug("NVML cannot be closed: %s", error)

    def _open(self) -> None:
        if self._nvml is not None:
            return
        try:
            nvml: Any = importlib.import_module("pynvml")
        except ImportError:
            self._absent = True
            raise
        try:
            nvml.nvmlInit()
        except nvml.NVMLError_LibraryNotFound:
            self._absent = True
            raise
        self._nvml = nvml
        handles = map(nvml.nvmlDeviceGetHandleByIndex, range(nvml.nvmlDeviceGetCount()))
        self._handles = sorted(handles, key=lambda one: nvml.nvmlDeviceGetPciInfo(one).busId)

    def _use(self, index: int, handle: Any) -> GpuUse:
        memory = self._nvml.nvmlDeviceGetMemoryInfo(handle)
        try:
            percent = float(self._nvml.nvmlDeviceGetUtilizationRates(handle).gpu)
        except self._nvml.NVMLError:  # not of one that is divided (MIG)
            percent = None
        # Versions differ in whether "used" includes what is reserved; "free" never does.
        return GpuUse(index, int(memory.total - memory.free), int(memory.total), percent)

    def _fail(self, error: Exception) -> None:
        words = f"{type(error).__name__}: {error}"
        if not self._absent and words != self._failed:
            log.warning("GPUs cannot be read: %s", words)
        self._failed = words
        self.close()
