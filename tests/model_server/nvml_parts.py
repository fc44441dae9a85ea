"""A driver made of a JSON file, and a process that asks it: it imports ``pynvml`` as any would."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

MIB = 1 << 20

# As far as the module of nvidia-ml-py is used, with the functions' names and errors.
_PYNVML = """
import json, pathlib, types

_STATE = pathlib.Path(__file__).with_name("driver.json")
_open = False


class NVMLError(Exception):
    pass


def _state(call):
    state = json.loads(_STATE.read_text())
    for name in (call, "everything"):
        if name in state.get("broken", {}):
            raise NVMLError(state["broken"][name])
    if not _open and call != "nvmlInit":
        raise NVMLError("Uninitialized")
    return state


def nvmlInit():
    global _open
    _state("nvmlInit")
    _open = True


def nvmlShutdown():
    global _open
    _state("nvmlShutdown")
    _open = False


def nvmlDeviceGetCount():
    return len(_state("nvmlDeviceGetCount")["gpus"])


def nvmlDeviceGetHandleByIndex(index):
    return ("gpus", index)


def nvmlDeviceGetHandleByUUID(uuid):
    for part in ("gpus", "instances"):
        for index, gpu in enumerate(_state("nvmlDeviceGetHandleByUUID").get(part, [])):
            if gpu["uuid"] == uuid:
                return (part, index)
    raise NVMLError("Not Found")


def _gpu(handle, call):
    part, index = handle
    return _state(call)[part][index]


def nvmlDeviceGetUUID(handle):
    return _gpu(handle, "nvmlDeviceGetUUID")["uuid"]


def nvmlDeviceGetName(handle):
    return _gpu(handle, "nvmlDeviceGetName").get("name", "Fake").encode()


def nvmlDeviceGetPciInfo(handle):
    return types.SimpleNamespace(busId=_gpu(handle, "nvmlDeviceGetPciInfo")["bus"])


def nvmlDeviceGetMemoryInfo(handle):
    gpu = _gpu(handle, "nvmlDeviceGetMemoryInfo")
    return types.SimpleNamespace(total=gpu["total"], free=gpu["free"])


def nvmlDeviceGetComputeRunningProcesses(handle):
    gpu = _gpu(handle, "nvmlDeviceGetComputeRunningProcesses")
    return [
        types.SimpleNamespace(pid=pid, usedGpuMemory=used) for pid, used in gpu.get("processes", [])
    ]


def nvmlDeviceGetMigMode(handle):
    gpu = _gpu(handle, "nvmlDeviceGetMigMode")
    if "instances" not in gpu:
        raise NVMLError("Not Supported")
    return [1, 1]


def nvmlDeviceGetMaxMigDeviceCount(handle):
    return 7


def nvmlDeviceGetMigDeviceHandleByIndex(handle, index):
    instances = _gpu(handle, "nvmlDeviceGetMigDeviceHandleByIndex")["instances"]
    if str(index) not in instances:
        raise NVMLError("Not Found")
    return ("instances", instances[str(index)])
"""

# Answers a line for each line: what to ask, after how many seconds of a clock of its own.
_ASKING = """
import json, sys, logging
logged = []
class Kept(logging.Handler):
    def emit(self, record):
        logged.append(record.getMessage())
logging.getLogger("modelyard").addHandler(Kept())
logging.getLogger("modelyard").setLevel("INFO")
from model_server.gpus import NvmlGpus
now = 0.0
gpus = NvmlGpus(json.loads(sys.argv[1]), clock=lambda: now)
for line in sys.stdin:
    seconds = float(line)
    now += seconds
    devices = [
        [gpu.index, gpu.name, gpu.total_bytes, gpu.used_bytes, gpu.before_bytes]
        for gpu in gpus.devices()
    ]
    processes = gpus.process_bytes()
    print(json.dumps([devices, processes, gpus.failed, gpus.knows_processes, logged]), flush=True)
"""


class Look:
    """What one look found."""

    def __init__(self, line: str) -> None:
        devices, processes, failed, knows_processes, logged = json.loads(line)
        self.devices: list[list[Any]] = devices
        self.processes: dict[int, dict[int, int]] = {
            int(pid): {int(index): count for index, count in used.items()}
            for pid, used in processes.items()
        }
        self.failed: str | None = failed
        self.knows_processes: bool = knows_processes
        self.logged: list[str] = logged


class Driver:
    """The file that the module reads, and the process that asks it."""

    def __init__(self, directory: Path, process: subprocess.Popen[str]) -> None:
        self._file = directory / "driver.json"
        self._process = process

    def says(self, *gpus: dict[str, Any], **more: Any) -> None:
        """From now on these are the GPUs."""
        self._file.write_text(json.dumps({"gpus": gpus, **more}))

    def look(self, *, after_seconds: float = 0) -> Look:
        """Ask what there is."""
        assert self._process.stdin and self._process.stdout
        self._process.stdin.write(f"{after_seconds}\n")
        self._process.stdin.flush()
        return Look(self._process.stdout.readline())


def gpu(number: int = 0, *, used: int = 0, **more: Any) -> dict[str, Any]:
    """A GPU of 1,000 MiB."""
    where = {"uuid": f"GPU-{number:04}", "bus": f"00000000:{number:02X}:00.0"}
    return {**where, "total": 1000 * MIB, "free": 1000 * MIB - used, **more}


@contextmanager
def driver(directory: Path, *, cuda_visible: str | None = None) -> Iterator[Driver]:
    """A process with a driver; without ``says`` it has no file, and every call fails."""
    (directory / "pynvml.py").write_text(_PYNVML)
    with subprocess.Popen(
        [sys.executable, "-W", "error", "-c", _ASKING, json.dumps(cuda_visible)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={"PYTHONPATH": str(directory)},
    ) as process:
        yield Driver(directory, process)
        assert process.stdin
        process.stdin.close()
        assert process.wait(timeout=60) == 0
