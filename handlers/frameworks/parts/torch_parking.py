"""Parks PyTorch models: what their tensors hold on a GPU moves to the host, and later back.

Storages are moved, the bytes that tensors only look at: emptied and filled again in place. So every
tensor stays the object that it was, with its views and ties, also inside of TorchScript and
exported programs, and whatever the model's code keeps of them.

Everything works for another kind of device too, by which it can be tried without a GPU.
"""

from __future__ import annotations

import logging
import mmap
import sys
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Any, NamedTuple

from handlers.errors import ParkingFailed
from handlers.frameworks.parts.torch_tensors import modules_of, tensors_of

log = logging.getLogger("modelyard.handlers")

CUDA = "cuda"

_ALIGNMENT = 512  # as PyTorch's allocators have it; copies of aligned bytes are the fastest
_PORTABLE = 1  # cudaHostRegisterPortable: pinned for every GPU
_DEFAULT_POOL = (0, 0)


def torch_parking(loaded: Any, device: str = CUDA) -> TorchParking | None:
    """How to park what was loaded; None where no module of it has anything on such a device."""
    if "torch" not in sys.modules:
        return None
    found = TorchParking(list(modules_of(loaded)), device)
    return found if found.bytes_on_device() else None


class TorchParking:
    """Modules that are on a device, or parked.

    The copy on the host is kept when they are back, so that parking again copies only what may
    have changed: buffers, and parameters that were written to.
    """

    def __init__(self, modules: Sequence[Any], device: str = CUDA) -> None:
        self._modules = modules
        self._device = device
        self._copy: HostCopy | None = None
        self._is_parked = False

    def bytes_on_device(self) -> int:
        """What ``park`` would release."""
        return sum(held.storage.nbytes() for held in self._on_device().values())

    def park(self) -> None:
        """Release the memory. Where that fails, nothing has changed.

        Raises ParkingFailed for a model that could not be brought back: one with CUDA graphs.
        """
        if self._device == CUDA and _has_graphs():
            raise ParkingFailed(
                "The model has recorded CUDA graphs, which know the addresses of its weights."
            )
        held = self._on_device()
        _synchronize(self._device)
        copy, self._copy = self._copy, None  # which nobody knows the state of if this fails
        if copy is None or not copy.is_of(held):
            copy = None  # before there is another
            copy = HostCopy(held, self._device)
        copy.take(held)
        _synchronize(self._device)
        self._copy, self._is_parked = copy, True
        copy.empty_storages()
        _release_cache(self._device)

    def restore(self) -> None:
        """Bring everything back. Where that fails, all of it is parked as before."""
        if self._copy is None or not self._is_parked:
            raise ParkingFailed("The model is not parked.")
        try:
            self._copy.give_back()
            _synchronize(self._device)
        except BaseException:
            self._copy.empty_storages()
            _release_cache(self._device)
            raise
        self._is_parked = False

    def _on_device(self) -> dict[int, Held]:
        """The storages there, each once, however many tensors look at it."""
        found: dict[int, Held] = {}
        for tensor in tensors_of(self._modules):
            if tensor.device.type != self._device:
                continue
            storage = tensor.untyped_storage()
            if storage.nbytes() and storage.resizable():
                before = found.get(storage._cdata, Held(storage, ()))
                found[storage._cdata] = before.seen_by(tensor)
        return found


class Held(NamedTuple):
    """A storage; ``versions`` of the parameters on it, None when something else is there too."""

    storage: Any
    versions: tuple[int, ...] | None

    def seen_by(self, tensor: Any) -> Held:
        """The same with one more tensor that looks at it."""
        import torch

        if self.versions is None or not isinstance(tensor, torch.nn.Parameter):
            return Held(self.storage, None)
        if tensor.is_inference():  # those count no versions
            return Held(self.storage, None)
        return Held(self.storage, (*self.versions, tensor._version))


class HostCopy:
    """Memory of this process, pinned if possible, with a place for each of some storages.

    Mapped by ourselves and then pinned, and not asked for as pinned memory: PyTorch would round it
    up to a power of two, and the kernel would not count it as this process's.
    """

    def __init__(self, held: dict[int, Held], device: str) -> None:
        import torch

        self._storages = [each.storage for each in held.values()]
        self._sizes = [storage.nbytes() for storage in self._storages]
        self._versions: dict[int, tuple[int, ...] | None] = {}
        self._places: list[int] = []
        end = 0
        for size in self._sizes:
            self._places.append(end)
            end += -(-size // _ALIGNMENT) * _ALIGNMENT
        memory = mmap.mmap(-1, end, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        with suppress(OSError):  # a kernel without huge pages
            memory.madvise(mmap.MADV_HUGEPAGE)
        self._bytes = torch.frombuffer(memory, dtype=torch.uint8)
        self._is_pinned = device == CUDA and _pin(self._bytes)

    def __del__(self) -> None:
        """Unpin before the memory is unmapped."""
        if getattr(self, "_is_pinned", False):
            _unpin(self._bytes)

    def is_of(self, held: dict[int, Held]) -> bool:
        """Whether it has places for just these."""
        known = [storage._cdata for storage in self._storages]
        sizes = [each.storage.nbytes() for each in held.values()]
        return known == list(held) and sizes == self._sizes

    def take(self, held: dict[int, Held]) -> None:
        """Copy from the device what is not here as it is there. Begins it: wait for the device."""
        for storage, here in self._pairs():
            versions = held[storage._cdata].versions
            if versions is None or versions != self._versions.get(storage._cdata):
                here.copy_(_bytes_of(storage), non_blocking=True)
            self._versions[storage._cdata] = versions

    def give_back(self) -> None:
        """Copy all to the device. Begins it: wait for the device."""
        for storage, here in self._pairs():
            storage.resize_(here.numel())
            _bytes_of(storage).copy_(here, non_blocking=True)

    def empty_storages(self) -> None:
        """Release what they have on the device."""
        for storage in self._storages:
            storage.resize_(0)

    def _pairs(self) -> Iterator[tuple[Any, Any]]:
        for storage, place, size in zip(self._storages, self._places, self._sizes, strict=True):
            yield storage, self._bytes[place : place + size]


# --- what PyTorch does for a device --------------------------------------------------------------


def _bytes_of(storage: Any) -> Any:
    """A storage as a tensor of bytes."""
    import torch

    empty: Any = torch.empty(0, dtype=torch.uint8, device=storage.device)
    return empty.set_(storage, 0, (storage.nbytes(),))


def _synchronize(device: str) -> None:
    """Wait for what the GPUs are doing for this process."""
    import torch

    if device == CUDA:
        for index in range(torch.cuda.device_count()):
            if torch.cuda.memory_reserved(index):  # else it may have no context there, nor get one
                torch.cuda.synchronize(index)


def _release_cache(device: str) -> None:
    import torch

    if device == CUDA:
        torch.cuda.empty_cache()


def _has_graphs() -> bool:
    """Whether there is memory that belongs to CUDA graphs, which have pools of their own."""
    import torch

    cuda: Any = torch.cuda  # which it leaves without types
    pools = (each.get("segment_pool_id", _DEFAULT_POOL) for each in cuda.memory_snapshot())
    return any(tuple(pool) != _DEFAULT_POOL for pool in pools)


def _pin(memory: Any) -> bool:
    """Whether the driver has pinned a tensor's memory; if not, copies are slower, no more."""
    import torch

    cuda: Any = torch.cuda
    error = int(cuda.cudart().cudaHostRegister(memory.data_ptr(), memory.numel(), _PORTABLE))
    if error:
        log.warning("the weights are parked in memory that could not be pinned: error %d", error)
        with suppress(RuntimeError):  # CUDA gives the error again to whoever asks next
            torch.ones(1, device=CUDA)
    return not error


def _unpin(memory: Any) -> None:
    import torch

    cuda: Any = torch.cuda
    cuda.cudart().cudaHostUnregister(memory.data_ptr())
