"""Tries on a real GPU what tests can only play: ``./scripts/gpu-check``.

Parks a PyTorch model of 1 GiB and brings it back, serves two that do not fit together, fills the
GPU under a request, and finds out whether the driver can checkpoint a process.

Exit codes: 0 all as it should be, 1 something is not, 2 there is no GPU and nothing was checked.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.gpu_rows import Row, at_most, exit_code, holds, table
from benchmarks.gpu_server import MIB, ROW, contender, full_gpu, two_models
from benchmarks.models import JSON, SCRIPTS, Model
from benchmarks.servers import Contender
from model_server.gpus import Gpu, gpu_probe

NO_GPU = 2
CHILD_SECONDS = 300
PARK_MS = 150.0
RETURN_MS = 100.0
MODEL_BYTES = 1 << 30


class CheckFailed(Exception):
    """A step could not be made; the text says why."""


@dataclass
class Check:
    """What the parts have in common: a directory, the models in it, what was measured before."""

    directory: Path
    rounds: int
    measured: dict[str, Any] = field(default_factory=dict)

    def network(self, name: str) -> Model:
        """The network of 1 GiB by that name; all have the same file of weights."""
        file = self.directory / "network.safetensors"
        if not file.exists():
            child("weights", str(file))
        folder = self._folder(name, "gpu_model.py", "model.py")
        if not (folder / "model.safetensors").exists():
            os.link(file, folder / "model.safetensors")
        return Model(name, folder, ROW, JSON)

    def scripted(self, name: str) -> Model:
        """A model that is nothing but a script of ours."""
        return Model(name, self._folder(name, f"{name}.py", "inference.py"), b"{}", JSON)

    def server(self, settings: dict[str, str]) -> Contender:
        """Our server for these models, with what is set beyond that."""
        own = {"MODELYARD_PRELOAD": "pytorch", "MODELYARD_DEVICE": "cuda:0"}
        return contender(self.directory, {**own, **settings})

    def _folder(self, name: str, script: str, place: str) -> Path:
        code = self.directory / "models" / name / "code"
        code.mkdir(parents=True, exist_ok=True)
        shutil.copy(SCRIPTS / script, code / place)
        return code.parent

    def moves(self) -> dict[str, Any]:
        """How a model of 1 GiB left its GPU and came back; done once."""
        if not self.measured:
            self.measured = child("moves", str(self.network("network-a").directory))
        return self.measured


def parking(check: Check) -> Iterator[Row]:
    """One model, in a process of its own."""
    found = check.moves()
    park = [1000 * seconds for seconds in found["park_seconds"]]
    restore = [1000 * seconds for seconds in found["restore_seconds"]]
    left = max(found["parked_bytes"])
    freed = found["loaded_bytes"] - left
    yield at_most("park 1 GiB, for the first time", park[0], PARK_MS, "ms")
    yield at_most("park 1 GiB again, median", statistics.median(park[1:]), PARK_MS, "ms")
    yield at_most("bring back 1 GiB, slowest", max(restore), RETURN_MS, "ms")
    yield holds("its memory is free (NVML)", f"{freed // MIB:,} MiB", freed >= MODEL_BYTES)
    yield Row("what a parked process still has (NVML)", f"{left // MIB:,} MiB")
    yield holds("same answer as before", str(found["same_answer"]), found["same_answer"])


def together(check: Check) -> Iterator[Row]:
    """Two models in a server, with room for one, and for what the other keeps when parked."""
    left = max(check.moves()["parked_bytes"])
    limit = check.moves()["loaded_bytes"] + left + MODEL_BYTES // 2
    models = check.network("network-a"), check.network("network-b")
    ours = check.server({"MODELYARD_GPU_MEMORY_LIMIT_BYTES": str(limit)})
    yield Row("memory limit for two models of 1 GiB", f"{limit // MIB:,} MiB")
    yield from two_models(ours, check.directory / "together", models, check.rounds)


def full(check: Check) -> Iterator[Row]:
    """CUDA out of memory in the midst of a request."""
    models = check.scripted("gpu_filler"), check.scripted("gpu_hungry")
    return full_gpu(check.server({}), check.directory / "full", *models)


def driver(check: Check) -> Iterator[Row]:
    """The driver's own way to take a process off its GPU. A trial: the server does not use it."""
    with _child("hold", "-") as holder:
        try:
            _expect_ready(holder)
            found = child("checkpoint", str(holder.pid))
            if "refused" in found or not found["offered"]:
                old = f"no: the driver, of CUDA {found.get('cuda')}, is too old"
                yield Row("driver can checkpoint a process", found.get("refused", old))
                return
            unharmed = _answer(holder, "\n")["unharmed"]
        finally:
            holder.kill()  # it may wait for its GPU for ever
    yield holds("driver can checkpoint a process", f"yes (CUDA {found['cuda']})", unharmed)
    yield Row("  lock and checkpoint 1 GiB", f"{1000 * found['away_seconds']:,.0f} ms")
    yield Row("  restore and unlock", f"{1000 * found['back_seconds']:,.0f} ms")
    yield Row("  device memory freed (NVML)", f"{found['freed_bytes'] // MIB:,} MiB")


PARTS: dict[str, Callable[[Check], Iterator[Row]]] = {
    "parking": parking,
    "together": together,
    "full": full,
    "driver": driver,
}


# --- steps in processes of their own -------------------------------------------------------------


def child(step: str, argument: str) -> dict[str, Any]:
    """The answer of a step. Raises CheckFailed with what it wrote last, when there is none."""
    with _child(step, argument) as process:
        return _answer(process, None)


def _child(step: str, argument: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "benchmarks.gpu_child", step, argument],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def _expect_ready(process: subprocess.Popen[str]) -> None:
    assert process.stdout is not None
    if process.stdout.readline().strip() != "ready":
        raise CheckFailed(_last_line(process.communicate(timeout=CHILD_SECONDS)[1]))


def _answer(process: subprocess.Popen[str], told: str | None) -> dict[str, Any]:
    try:
        out, errors = process.communicate(told, timeout=CHILD_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        raise CheckFailed(f"a step took more than {CHILD_SECONDS} s") from None
    if process.returncode:
        raise CheckFailed(_last_line(errors))
    answer: dict[str, Any] = json.loads(out.splitlines()[-1])
    return answer


def _last_line(text: str) -> str:
    return (text.strip().splitlines() or ["it ended without a word"])[-1]


# --- all of it -----------------------------------------------------------------------------------


def main(arguments: Sequence[str]) -> int:
    """Run the check; the exit code."""
    options = _parser().parse_args(arguments)
    os.environ["CUDA_DEVICE_ORDER"] = "PCI_BUS_ID"  # as NVML numbers them
    os.environ["CUDA_VISIBLE_DEVICES"] = str(options.gpu)
    try:
        gpu, seen = _gpu(options.gpu), child("sees", "-")
    except CheckFailed as error:
        print(f"gpu-check: {error}", file=sys.stderr)
        return 1
    if gpu is None or not seen["gpus"]:
        print(_nothing(gpu, seen, options.gpu))
        return NO_GPU
    print(f"{gpu.name}, {gpu.total_bytes // MIB:,} MiB; PyTorch {seen['version']}", flush=True)
    rows: list[Row] = []
    with tempfile.TemporaryDirectory(prefix="modelyard-gpu-") as directory:
        check = Check(Path(directory), options.rounds)
        for name in options.only or PARTS:
            rows += _run(name, check)
    print(f"\n{table(rows)}")
    return exit_code(rows)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="scripts/gpu-check", description=__doc__)
    parser.add_argument("--gpu", type=int, default=0, help="which GPU, in the order of nvidia-smi")
    parser.add_argument(
        "--rounds", type=int, default=100, help="how often each of the two models is asked"
    )
    parser.add_argument(
        "--only", nargs="+", choices=PARTS, metavar="NAME", help=f"of {', '.join(PARTS)}"
    )
    return parser


def _gpu(number: int) -> Gpu | None:
    """What NVML, or at least the driver, says of it."""
    probe = gpu_probe("auto", cuda_visible=str(number))
    devices = probe.devices()
    if devices and probe.failed is not None:
        raise CheckFailed(f"there is a GPU, but NVML does not answer: {probe.failed}")
    return devices[0] if devices else None


def _nothing(gpu: Gpu | None, seen: dict[str, Any], number: int) -> str:
    driver_says = f"the driver shows {gpu.name}" if gpu else f"the driver shows no GPU {number}"
    build = f"is built for CUDA {seen['cuda']}" if seen["cuda"] else "is built without CUDA"
    return (
        f"no CUDA device to check: {driver_says}; PyTorch {seen['version']} {build} and sees "
        f"{seen['gpus'] or 'none'}. Nothing was checked."
    )


def _run(name: str, check: Check) -> list[Row]:
    """The rows of a part; when it cannot be finished, why."""
    print(f"{name} …", flush=True)
    rows: list[Row] = []
    try:
        rows.extend(PARTS[name](check))
    except Exception as error:  # the other parts may still tell something
        rows.append(
            Row(f"{name}: not finished", f"{type(error).__name__}: {error}"[:200], "yes", False)
        )
    return rows


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
