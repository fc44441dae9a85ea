"""The GPUs and who uses their memory. Effects only: decisions are made elsewhere.

Nothing here touches CUDA: a process that forks workers must have no context on a GPU. Looks may
block for milliseconds (with a broken driver for longer) and belong off the event loop.
"""

from __future__ import annotations

import ctypes
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from model_server.gpu_table import GpuTable, read_table
from model_server.nvml import Nvml
from model_server.settings import SettingsError

log = logging.getLogger("modelyard.gpus")

_DRIVER = Path("/proc/driver/nvidia/gpus")
_NVML_LIBRARY = "libnvidia-ml.so.1"
_RETRY_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Gpu:
    """A GPU, with the number that CUDA gives it.

    ``total_bytes`` is 0 when nobody can tell. ``used_bytes`` is what all processes and the driver
    use now, ``before_bytes`` what was in use before there was any model.
    """

    index: int
    name: str
    total_bytes: int
    used_bytes: int
    before_bytes: int = 0


class GpuProbe(Protocol):
    """Where GPUs and their memory are read from.

    None of the methods raises: what cannot be read stays as it was last known, and ``failed`` says
    why, None while all is well. Where ``knows_processes`` is false, ``process_bytes`` says nothing,
    and all that can be told is that models together take ``used_bytes`` less ``before_bytes``.
    """

    @property
    def failed(self) -> str | None:
        """Why the numbers are not those of now."""

    @property
    def knows_processes(self) -> bool:
        """Whether the latest look could tell which process uses what."""

    def devices(self) -> Sequence[Gpu]:
        """The GPUs as they are now."""

    def process_bytes(self) -> dict[int, dict[int, int]]:
        """What each process uses of each GPU: bytes by pid and index."""


def gpu_probe(setting: str, *, cuda_visible: str | None = None) -> GpuProbe:
    """The probe for the setting ``gpu_probe``: ``auto``, ``none`` or the path of a table.

    ``cuda_visible`` is CUDA_VISIBLE_DEVICES as the models' processes have it, None: not set. Raises
    SettingsError when the table is no table.
    """
    if setting == "none":
        return NoGpus()
    if setting == "auto":
        return NvmlGpus(cuda_visible) if _driver_is_here() else NoGpus()
    return TableOfGpus(setting)


class NoGpus:
    """A machine without GPUs, or a server that is not to use them."""

    failed = None
    knows_processes = True

    def devices(self) -> Sequence[Gpu]:
        """None."""
        return ()

    def process_bytes(self) -> dict[int, dict[int, int]]:
        """None."""
        return {}


class NvmlGpus:
    """The GPUs that the driver shows, read through NVML.

    When NVML is missing or fails, what was known last stays, before that the list of the driver
    without sizes; it is tried again after a minute.
    """

    def __init__(
        self, cuda_visible: str | None = None, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._cuda_visible = cuda_visible
        self._clock = clock
        self._nvml: Nvml | None = None
        self._retry_at = clock()
        self._known = [Gpu(index, name, 0, 0) for index, name in enumerate(_names_by_driver())]
        self._unread: str | None = None  # why not even the devices can be read
        self._untold: str | None = None  # why only their processes cannot
        self.knows_processes = False

    @property
    def failed(self) -> str | None:
        """Why the numbers are not those of now."""
        return self._unread or self._untold

    def devices(self) -> Sequence[Gpu]:
        """The GPUs as they are now, or as they were when NVML last answered."""
        if nvml := self._session():
            try:
                self._take(nvml)
            except Exception as error:  # whatever a dying driver leads to
                self._fail(error)
        return tuple(self._known)

    def process_bytes(self) -> dict[int, dict[int, int]]:
        """What the processes of this machine, or this container, use."""
        nvml = self._session()
        if nvml is None:
            return {}
        try:
            listed = nvml.processes()
        except Exception as error:  # not for every board, and not for everybody
            self._miss_processes(error)
            return {}
        self._untold = None
        return self._attributed(listed)

    def _miss_processes(self, error: Exception) -> None:
        reason = _reason(error)
        if reason != self._untold and not self._unread:
            log.warning("the driver does not say which process uses what of a GPU: %s", reason)
        self._untold = reason
        self.knows_processes = False

    def _session(self) -> Nvml | None:
        if self._nvml is None and self._clock() >= self._retry_at:
            try:
                self._nvml = Nvml(self._cuda_visible)
            except Exception as error:  # not installed, no library, a driver that does not fit it
                self._fail(error)
        return self._nvml

    def _take(self, nvml: Nvml) -> None:
        before = {gpu.index: gpu.before_bytes for gpu in self._known if gpu.total_bytes}
        self._known = [
            Gpu(
                index,
                memory.name,
                memory.total_bytes,
                memory.used_bytes,
                # Others may leave; then less of what is used now was there before.
                min(before.get(index, memory.used_bytes), memory.used_bytes),
            )
            for index, memory in enumerate(nvml.memory())
        ]
        if self._unread:
            log.info("NVML answers again")
        self._unread = None

    def _attributed(
        self, listed: Sequence[Sequence[tuple[int, int | None]]]
    ) -> dict[int, dict[int, int]]:
        """Bytes by process, and whether that can be believed.

        In a container the driver may list pids of the host, or leave out the bytes, or the
        processes altogether; so only processes that live here and use something are proof.
        """
        found: dict[int, dict[int, int]] = {}
        untold = False
        for index, processes in enumerate(listed):
            for pid, used_bytes in processes:
                if not _lives(pid):
                    continue
                if used_bytes:
                    found.setdefault(pid, {})[index] = used_bytes
                else:
                    untold = True
        if any(listed):
            self.knows_processes = bool(found) and not untold
        return found if self.knows_processes else {}

    def _fail(self, error: Exception) -> None:
        reason = _reason(error)
        if reason != self._unread:
            log.warning(
                "GPU memory cannot be read, models are placed by what was last known. NVML: %s. In "
                "a container it needs NVIDIA_DRIVER_CAPABILITIES=compute,utility",
                reason,
            )
        self._unread = reason
        self.knows_processes = False
        self._retry_at = self._clock() + _RETRY_SECONDS
        nvml, self._nvml = self._nvml, None
        if nvml is not None:
            try:
                nvml.close()
            except Exception as closing:  # it had failed before
                log.debug("NVML cannot be closed: %s", closing)


class TableOfGpus:
    """GPUs that are numbers in a JSON file, read anew at each look: for tests and trials.

    See ``gpu_table`` for what the file says. Raises SettingsError when it says nothing usable at
    the start; later the last good table stays.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._table = read_table(path)
        self.failed: str | None = None

    @property
    def knows_processes(self) -> bool:
        """Whether the table is one of GPUs that tell."""
        return self._table.knows_processes

    def devices(self) -> Sequence[Gpu]:
        """The GPUs of the table, used by others and by the processes that it knows."""
        table = self._read()
        used = [gpu.used_bytes for gpu in table.gpus]
        for by_gpu in table.used_by_process().values():
            for index, count in by_gpu.items():
                used[index] += count
        return tuple(
            Gpu(index, gpu.name, gpu.total_bytes, used[index], gpu.used_bytes)
            for index, gpu in enumerate(table.gpus)
        )

    def process_bytes(self) -> dict[int, dict[int, int]]:
        """What the table and the files of processes say."""
        table = self._read()
        return table.used_by_process() if table.knows_processes else {}

    def _read(self) -> GpuTable:
        try:
            self._table = read_table(self._path)
        except SettingsError as error:
            if str(error) != self.failed:
                log.warning("%s; the table as it was last stays in force", error)
            self.failed = str(error)
        else:
            self.failed = None
        return self._table


def _reason(error: Exception) -> str:
    if isinstance(error, ImportError):
        return f"the package nvidia-ml-py is missing (install modelyard[gpu]): {error}"
    return f"{type(error).__name__}: {error}"


def _driver_is_here() -> bool:
    """Whether there is a GPU, or at least the library that would know."""
    if _names_by_driver():
        return True
    try:
        ctypes.CDLL(_NVML_LIBRARY)
    except OSError:
        return False
    return True


def _names_by_driver() -> list[str]:
    """The GPUs in the order on the bus, as the kernel's driver lists them: names without sizes."""
    try:
        return [_model_name(gpu / "information") for gpu in sorted(_DRIVER.iterdir())]
    except OSError:
        return []


def _model_name(information: Path) -> str:
    try:
        lines = information.read_text().splitlines()
    except OSError:
        return "GPU"
    found = [line.partition(":")[2].strip() for line in lines if line.startswith("Model")]
    return found[0] if found else "GPU"


def _lives(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()
