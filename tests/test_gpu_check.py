"""The GPU check, as far as it goes without a GPU: a table of numbers stands for one."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.cuda_driver import CudaDriver, DriverError
from benchmarks.gpu_rows import Row, at_most, exit_code, holds, table
from benchmarks.gpu_server import contender, full_gpu, two_models
from benchmarks.models import JSON, Model
from benchmarks.servers import Contender

from .contract.endpoint import BEHAVIOURS

ROOT = Path(__file__).parent.parent
GIB = 1 << 30
NO_SUCH_GPU = "4096"


def test_a_machine_without_a_gpu_is_told_so_and_is_exit_code_2() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.gpu_check", "--gpu", NO_SUCH_GPU],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=False,
    )
    assert done.returncode == 2, done.stderr
    (line,) = done.stdout.splitlines()
    assert line.startswith("no CUDA device to check: the driver shows no GPU 4096; PyTorch ")
    assert line.endswith("Nothing was checked.")


def test_the_table_is_aligned_and_shows_what_was_missed() -> None:
    rows = [
        at_most("park", 149.6, 150, "ms"),
        at_most("return", 1234.0, 100, "ms"),
        holds("same answer", "True", True),
        Row("what is left", "500 MiB"),
    ]
    assert table(rows).splitlines() == [
        "Check         Measured  Target    Met",
        "park          150 ms    ≤ 150 ms  yes",
        "return        1,234 ms  ≤ 100 ms  NO",
        "same answer   True      yes       yes",
        "what is left  500 MiB   -         -",
    ]
    assert exit_code(rows) == 1
    assert exit_code([rows[0], *rows[2:]]) == 0


def test_without_a_driver_there_are_no_checkpoints() -> None:
    try:
        driver = CudaDriver()
    except DriverError as error:
        assert str(error)
    else:
        pytest.skip(f"there is a driver here, of CUDA {driver.version()}")


def server(directory: Path, **settings: str) -> Contender:
    """A server with a GPU of 10 GiB."""
    (directory / "gpu").mkdir()
    (directory / "gpus.json").write_text(
        f'{{"gpus": [{{"name": "table", "total_bytes": {10 * GIB}}}], '
        f'"process_dir": "{directory / "gpu"}"}}'
    )
    own = {"MODELYARD_GPU_PROBE": str(directory / "gpus.json"), "MODELYARD_PRELOAD": "python"}
    return contender(directory, {**own, **settings})


def model(directory: Path, name: str, behaviour: str, body: bytes, **environment: object) -> Model:
    folder = directory / "models" / name
    shutil.copytree(BEHAVIOURS / behaviour, folder)
    own = {"GPU_DIR": directory / "gpu", "GPU_BYTES": GIB, "MOVES": directory / "moves"}
    lines = ['device = "cuda:0"', "[environment]"]
    lines += [f'{key} = "{value}"' for key, value in {**own, **environment}.items()]
    (folder / "modelyard.toml").write_text("\n".join(lines))
    return Model(name, folder, body, JSON)


def test_two_models_that_do_not_fit_together_are_asked_in_turn(tmp_path: Path) -> None:
    ours = server(tmp_path, MODELYARD_GPU_MEMORY_LIMIT_BYTES=str(GIB + GIB // 2))
    models = (model(tmp_path, "a", "parks", b"0"), model(tmp_path, "b", "parks", b"0"))
    rows = list(two_models(ours, tmp_path / "server", models, 2))
    assert exit_code(rows) == 0, table(rows)
    assert "errors in 4 requests" in rows[0].check
    moves = (tmp_path / "moves").read_text().split()
    assert moves.count("park") >= 3
    assert moves.count("restore") >= 3


def test_a_full_gpu_is_freed_for_a_request(tmp_path: Path) -> None:
    full, asked = tmp_path / "full", tmp_path / "asked"
    full.write_text("x\n")
    filler = model(tmp_path, "filler", "parks", b"0")
    hungry = model(tmp_path, "hungry", "full_device", b"x", FULL=full, ASKED=asked)
    rows = list(full_gpu(server(tmp_path), tmp_path / "server", filler, hungry))
    assert exit_code(rows) == 0, table(rows)
    assert asked.read_text().split() == ["x", "x"]
