"""GPUs of a driver that is a file, asked by a process of its own, which imports ``pynvml``."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[3]
MIB = 1 << 20

# As far as the module of nvidia-ml-py is used, with the functions' names and errors.
PYNVML = """
import json, pathlib, types


class NVMLError(Exception):
    pass


class NVMLError_LibraryNotFound(NVMLError):
    pass


_open = False


def _state(call):
    state = json.loads(pathlib.Path(__file__).with_name("driver.json").read_text())
    if call in state.get("broken", ()):
        raise NVMLError(f"{call} failed")
    if not _open and call != "nvmlInit":
        raise NVMLError("Uninitialized")
    return state


def nvmlInit():
    global _open
    if _state("nvmlInit").get("absent"):
        raise NVMLError_LibraryNotFound("NVML Shared Library Not Found")
    _open = True


def nvmlShutdown():
    global _open
    _state("nvmlShutdown")
    _open = False


def nvmlDeviceGetCount():
    return len(_state("nvmlDeviceGetCount")["gpus"])


def nvmlDeviceGetHandleByIndex(index):
    return index


def nvmlDeviceGetPciInfo(handle):
    return types.SimpleNamespace(busId=_state("nvmlDeviceGetPciInfo")["gpus"][handle]["bus"])


def nvmlDeviceGetMemoryInfo(handle):
    gpu = _state("nvmlDeviceGetMemoryInfo")["gpus"][handle]
    return types.SimpleNamespace(total=gpu["total"], free=gpu["free"])


def nvmlDeviceGetUtilizationRates(handle):
    percent = _state("nvmlDeviceGetUtilizationRates")["gpus"][handle]["percent"]
    if percent is None:
        raise NVMLError("Not Supported")
    return types.SimpleNamespace(gpu=percent)
"""

# A reading for each state on the command line; then what was logged.
READING = """
import dataclasses, json, logging, pathlib, sys
logged = []
class Kept(logging.Handler):
    def emit(self, record):
        logged.append(record.getMessage())
logging.getLogger("modelyard").addHandler(Kept())
from endpoint.metrics.gpus import Gpus
gpus, found = Gpus(), []
for state in sys.argv[2:]:
    pathlib.Path(sys.argv[1], "driver.json").write_text(state)
    found.append([dataclasses.astuple(gpu) for gpu in gpus.read()])
gpus.close()
print(json.dumps([found, logged]))
"""


def gpu(number: int, used: int, percent: float | None) -> dict[str, Any]:
    """A GPU of 1,000 MiB."""
    bus = f"00000000:{number:02X}:00.0"
    return {"bus": bus, "total": 1000 * MIB, "free": (1000 - used) * MIB, "percent": percent}


def read(directory: Path, *states: Any, installed: bool = True) -> tuple[list[Any], list[str]]:
    """What readings find, one of each state, and what is logged."""
    if installed:
        (directory / "pynvml.py").write_text(PYNVML)
    isolated: Sequence[str] = () if installed else ("-I", "-S")
    code = READING if installed else f"import sys\nsys.path.insert(0, {str(ROOT)!r})\n{READING}"
    done = subprocess.run(
        [sys.executable, *isolated, "-c", code, str(directory), *map(json.dumps, states)],
        env={"PYTHONPATH": f"{directory}:{ROOT}"},
        capture_output=True,
        text=True,
        check=True,
    )
    found, logged = json.loads(done.stdout)
    return found, logged


def test_gpus_are_read_in_the_order_on_the_bus(tmp_path: Path) -> None:
    first, second = gpu(2, 100, 30.0), gpu(7, 900, 99.0)
    found, logged = read(tmp_path, {"gpus": [second, first]})
    assert found == [
        [[0, 100 * MIB, 1000 * MIB, 30.0], [1, 900 * MIB, 1000 * MIB, 99.0]],
    ]
    assert logged == []


def test_each_reading_is_of_its_moment(tmp_path: Path) -> None:
    found, _ = read(tmp_path, {"gpus": [gpu(0, 1, 0.0)]}, {"gpus": [gpu(0, 2, 50.0)]})
    assert [used // MIB for ((_, used, _, _),) in found] == [1, 2]


def test_a_gpu_that_does_not_say_how_busy_it_is_has_its_memory(tmp_path: Path) -> None:
    found, _ = read(tmp_path, {"gpus": [gpu(0, 10, None)]})
    assert found == [[[0, 10 * MIB, 1000 * MIB, None]]]


def test_a_driver_that_fails_is_tried_again_and_said_once(tmp_path: Path) -> None:
    well = {"gpus": [gpu(0, 10, 1.0)]}
    lost = {**well, "broken": ["nvmlDeviceGetMemoryInfo", "nvmlShutdown"]}
    found, logged = read(tmp_path, well, lost, lost, well)
    assert [len(gpus) for gpus in found] == [1, 0, 0, 1]
    (line,) = logged
    assert line == "GPUs cannot be read: NVMLError: nvmlDeviceGetMemoryInfo failed"


def test_without_a_driver_there_are_no_gpus_and_nothing_is_said(tmp_path: Path) -> None:
    assert read(tmp_path, {"absent": True}, {"absent": True}) == ([[], []], [])


def test_without_the_package_there_are_no_gpus_and_nothing_is_said(tmp_path: Path) -> None:
    assert read(tmp_path, {}, {}, installed=False) == ([[], []], [])
