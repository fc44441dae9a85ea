"""NVML, NVIDIA's library for asking the driver: what GPUs have and who uses it.

It makes no CUDA context, and so takes no memory of any GPU. Only ``Nvml`` imports its Python
module, which is an extra: on machines without a GPU nobody does.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class DeviceMemory:
    """Memory of one GPU in bytes; what the driver keeps for itself counts as used."""

    name: str
    total_bytes: int
    used_bytes: int


class Nvml:
    """An open library, and the GPUs in the order in which CUDA numbers them.

    That is the order on the PCI bus (with CUDA_DEVICE_ORDER=PCI_BUS_ID, which the processes of
    models must have) of those that ``cuda_visible``, CUDA_VISIBLE_DEVICES, leaves; None: all. NVML
    itself knows nothing of it, and promises no order.

    Everything here raises ImportError, ``pynvml.NVMLError``, or what else a broken driver leads to.
    """

    def __init__(self, cuda_visible: str | None) -> None:
        self._pynvml: Any = importlib.import_module("pynvml")
        self._pynvml.nvmlInit()
        try:
            self._handles = self._visible(cuda_visible)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Give the library back."""
        self._pynvml.nvmlShutdown()

    def memory(self) -> list[DeviceMemory]:
        """What each GPU has."""
        return [self._memory(handle) for handle in self._handles]

    def processes(self) -> list[list[tuple[int, int | None]]]:
        """Pid and bytes of each process that computes, for each GPU; None where it is not told.

        In a container the pids may be those of the host.
        """
        return [
            [
                (int(process.pid), process.usedGpuMemory)
                for process in self._pynvml.nvmlDeviceGetComputeRunningProcesses(handle)
            ]
            for handle in self._handles
        ]

    def _memory(self, handle: Any) -> DeviceMemory:
        name = self._pynvml.nvmlDeviceGetName(handle)
        memory = self._pynvml.nvmlDeviceGetMemoryInfo(handle)
        # Versions differ in whether "used" includes what is reserved; "free" never does.
        return DeviceMemory(_text(name), int(memory.total), int(memory.total - memory.free))

    def _visible(self, cuda_visible: str | None) -> list[Any]:
        handles = [
            self._pynvml.nvmlDeviceGetHandleByIndex(index)
            for index in range(self._pynvml.nvmlDeviceGetCount())
        ]
        handles.sort(key=lambda handle: _text(self._pynvml.nvmlDeviceGetPciInfo(handle).busId))
        if cuda_visible is not None and cuda_visible.strip().startswith("MIG-"):
            first = cuda_visible.partition(",")[0].strip()  # CUDA uses one, whatever follows
            return [self._pynvml.nvmlDeviceGetHandleByUUID(first)]
        uuids = [_text(self._pynvml.nvmlDeviceGetUUID(handle)) for handle in handles]
        return [self._usable(handles[number]) for number in visible_gpus(uuids, cuda_visible)]

    def _usable(self, handle: Any) -> Any:
        """The GPU, or its first instance when it is divided (MIG): CUDA takes that one."""
        try:
            divided, _ = self._pynvml.nvmlDeviceGetMigMode(handle)
        except self._pynvml.NVMLError:  # it cannot be divided
            return handle
        for index in range(self._pynvml.nvmlDeviceGetMaxMigDeviceCount(handle) if divided else 0):
            try:
                return self._pynvml.nvmlDeviceGetMigDeviceHandleByIndex(handle, index)
            except self._pynvml.NVMLError:  # numbers may be left out
                continue
        return handle


def visible_gpus(uuids: Sequence[str], cuda_visible: str | None) -> list[int]:
    """Which of the GPUs CUDA shows, in its order: the first is ``cuda:0``.

    ``cuda_visible`` is CUDA_VISIBLE_DEVICES: numbers and (beginnings of) UUIDs. As CUDA does, the
    list ends at the first entry that names no GPU, or one that is already there.
    """
    if cuda_visible is None:
        return list(range(len(uuids)))
    chosen: list[int] = []
    for entry in cuda_visible.split(","):
        named = _named(uuids, entry.strip())
        if named is None or named in chosen:
            break
        chosen.append(named)
    return chosen


def _named(uuids: Sequence[str], entry: str) -> int | None:
    if entry.isdecimal():
        return int(entry) if int(entry) < len(uuids) else None
    if not entry.startswith("GPU-"):
        return None
    matching = [number for number, uuid in enumerate(uuids) if uuid.startswith(entry)]
    return matching[0] if len(matching) == 1 else None


def _text(value: str | bytes) -> str:
    """Older versions of the module answer with bytes."""
    return value.decode() if isinstance(value, bytes) else value
