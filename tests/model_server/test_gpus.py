"""GPUs are read from NVML as far as it answers, or from a table of numbers."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from model_server.gpus import Gpu, NoGpus, TableOfGpus, gpu_probe
from model_server.nvml import visible_gpus
from model_server.settings import SettingsError

from .nvml_parts import MIB, Driver, driver, gpu


@pytest.fixture
def nvml(tmp_path: Path) -> Iterator[Driver]:
    with driver(tmp_path) as started:
        yield started


def bytes_of(*pairs: tuple[int, int | None]) -> list[tuple[int, int | None]]:
    return list(pairs)


def test_the_sizes_are_those_that_nvml_says(nvml: Driver) -> None:
    nvml.says(gpu(0, used=100 * MIB), gpu(1, name="Second"))
    look = nvml.look()
    assert look.devices == [
        [0, "Fake", 1000 * MIB, 100 * MIB, 100 * MIB],
        [1, "Second", 1000 * MIB, 0, 0],
    ]
    assert look.failed is None
    assert not look.logged


def test_processes_of_this_machine_are_told_apart(nvml: Driver) -> None:
    mine, other = os.getpid(), os.getppid()
    nvml.says(
        gpu(0, processes=bytes_of((mine, 5), (other, 6))), gpu(1, processes=bytes_of((mine, 7)))
    )
    look = nvml.look()
    assert look.processes == {mine: {0: 5, 1: 7}, other: {0: 6}}
    assert look.knows_processes


@pytest.mark.parametrize(
    "processes",
    [[(1 << 30, 5)], [(os.getpid(), None)], [(os.getpid(), 0)], [(os.getpid(), 5), (1, None)]],
    ids=["pids of the host", "no bytes", "zero bytes", "not all bytes"],
)
def test_in_a_container_that_hides_processes_nothing_is_said_of_them(
    nvml: Driver, processes: list[tuple[int, int | None]]
) -> None:
    nvml.says(gpu(0, used=30, processes=processes))
    look = nvml.look()
    assert not look.knows_processes
    assert not look.processes
    assert look.failed is None


def test_an_empty_list_of_processes_proves_nothing(nvml: Driver) -> None:
    nvml.says(gpu(0))
    assert not nvml.look().knows_processes
    nvml.says(gpu(0, processes=[(os.getpid(), 5)]))
    assert nvml.look().knows_processes
    nvml.says(gpu(0))
    assert nvml.look().knows_processes


def test_what_was_in_use_before_is_remembered_until_it_is_gone(nvml: Driver) -> None:
    before = []
    for used in (100, 700, 40, 700):
        nvml.says(gpu(0, used=used))
        before.append(nvml.look().devices[0][4])
    assert before == [100, 100, 40, 40]


@pytest.mark.parametrize("call", ["everything", "nvmlDeviceGetMemoryInfo", "nvmlDeviceGetName"])
def test_nvml_that_dies_leaves_what_was_known_and_is_tried_again_after_a_minute(
    nvml: Driver, call: str
) -> None:
    nvml.says(gpu(0, used=100, processes=[(os.getpid(), 50)]))
    good = nvml.look()
    assert good.knows_processes
    nvml.says(gpu(0, used=100), broken={call: "GPU is lost"})
    for _ in range(3):
        look = nvml.look(after_seconds=1)
        assert look.devices == good.devices
        assert look.failed is not None and "GPU is lost" in look.failed
        assert not look.knows_processes
    assert len(look.logged) == 1
    nvml.look(after_seconds=61)
    nvml.says(gpu(0, used=200))
    assert nvml.look(after_seconds=1).failed is not None
    look = nvml.look(after_seconds=61)
    assert look.failed is None
    assert look.devices[0][3:] == [200, 100]
    assert len(look.logged) == 2 and "again" in look.logged[1]


def test_a_driver_that_tells_no_processes_still_tells_sizes(nvml: Driver) -> None:
    broken = {"nvmlDeviceGetComputeRunningProcesses": "Insufficient Permissions"}
    mine = (os.getpid(), 5)
    nvml.says(gpu(0, used=100, processes=[mine]))
    assert nvml.look().knows_processes
    for used in (200, 300):
        nvml.says(gpu(0, used=used), broken=broken)
        look = nvml.look()
        assert look.devices[0][3] == used
        assert not look.knows_processes
        assert look.failed is not None and "Permissions" in look.failed
    assert len(look.logged) == 1
    nvml.says(gpu(0, processes=[mine]))
    look = nvml.look()
    assert look.knows_processes
    assert look.failed is None


def test_nvml_that_cannot_start_is_told_once_and_used_when_it_can(nvml: Driver) -> None:
    nvml.says(broken={"nvmlInit": "Driver/library version mismatch"})
    for _ in range(3):
        look = nvml.look(after_seconds=61)
        assert look.failed is not None and "version mismatch" in look.failed
        assert not look.devices
    assert len(look.logged) == 1
    assert "NVIDIA_DRIVER_CAPABILITIES" in look.logged[0]
    nvml.says(gpu(0))
    assert len(nvml.look(after_seconds=61).devices) == 1


def test_a_driver_that_breaks_in_an_unknown_way_is_no_error(nvml: Driver) -> None:
    look = nvml.look()  # its module cannot read its file
    assert look.failed is not None and "FileNotFoundError" in look.failed


def test_without_the_package_it_says_what_to_install(tmp_path: Path) -> None:
    with driver(tmp_path) as nvml:
        (tmp_path / "pynvml.py").write_text("raise ModuleNotFoundError('No module named pynvml')")
        look = nvml.look()
    assert look.failed is not None and "modelyard[gpu]" in look.failed


def test_gpus_are_numbered_by_their_place_on_the_bus(nvml: Driver) -> None:
    nvml.says(gpu(9, name="late"), gpu(1, name="early"))
    assert [device[1] for device in nvml.look().devices] == ["early", "late"]


def test_only_gpus_that_cuda_shows_count_and_in_its_order(tmp_path: Path) -> None:
    with driver(tmp_path, cuda_visible="2,GPU-0000") as nvml:
        nvml.says(gpu(0, name="a"), gpu(1, name="b"), gpu(2, name="c", processes=[(1, 8)]))
        look = nvml.look()
    assert [device[:2] for device in look.devices] == [[0, "c"], [1, "a"]]
    assert look.processes == {1: {0: 8}}


INSTANCES = [gpu(7, name="small", uuid="MIG-7"), gpu(8, name="large", uuid="MIG-8")]


def test_a_named_instance_of_a_divided_gpu_is_the_only_gpu(tmp_path: Path) -> None:
    with driver(tmp_path, cuda_visible="MIG-8,MIG-7") as nvml:
        nvml.says(gpu(0, instances={"0": 0, "3": 1}), instances=INSTANCES)
        assert [device[:2] for device in nvml.look().devices] == [[0, "large"]]


def test_of_a_divided_gpu_cuda_takes_the_first_instance(nvml: Driver) -> None:
    nvml.says(gpu(0, instances={"3": 1}), instances=INSTANCES)
    assert [device[:2] for device in nvml.look().devices] == [[0, "large"]]


UUIDS = ["GPU-aa11", "GPU-aa22", "GPU-bb33"]


@pytest.mark.parametrize(
    ("setting", "chosen"),
    [
        (None, [0, 1, 2]),
        ("", []),
        ("-1", []),
        ("NoDevFiles", []),
        ("2,0", [2, 0]),
        (" 1 , 2 ", [1, 2]),
        ("0,2,-1,1", [0, 2]),
        ("0,7,1", [0]),
        ("0,0", [0]),
        ("GPU-bb33,GPU-aa2", [2, 1]),
        ("GPU-b", [2]),
        ("GPU-aa", []),
        ("GPU-cc,0", []),
        ("²", []),
    ],
)
def test_the_variable_is_read_as_cuda_reads_it(setting: str | None, chosen: list[int]) -> None:
    assert visible_gpus(UUIDS, setting) == chosen


@given(st.text(st.sampled_from("0123456789-,GPUabc ٣")) | st.text())
def test_whatever_the_variable_says_no_gpu_is_there_twice(setting: str) -> None:
    chosen = visible_gpus(UUIDS, setting)
    assert len(set(chosen)) == len(chosen)
    assert set(chosen) <= {0, 1, 2}


def test_where_there_is_no_driver_nothing_is_imported() -> None:
    code = (
        "import sys; from model_server.gpus import NoGpus, gpu_probe; probe = gpu_probe('auto');"
        "assert isinstance(probe, NoGpus) != ('pynvml' in sys.modules), probe"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_none_is_no_gpus() -> None:
    probe = gpu_probe("none")
    assert isinstance(probe, NoGpus)
    assert (list(probe.devices()), probe.process_bytes(), probe.failed) == ([], {}, None)


# --- tables -------------------------------------------------------------------------------------


def put(path: Path, **table: Any) -> TableOfGpus:
    """Write a table as a whole, as one must while it is read."""
    new = path.with_suffix(".new")
    new.write_text(json.dumps(table))
    new.replace(path)
    probe = gpu_probe(str(path))
    assert isinstance(probe, TableOfGpus)
    return probe


TWO = [{"name": "A", "total_bytes": 1000, "used_bytes": 10}, {"name": "B", "total_bytes": 500}]


def test_a_table_says_what_others_and_processes_use(tmp_path: Path) -> None:
    path = tmp_path / "gpus.json"
    probe = put(path, gpus=TWO, processes={"4711": {"0": 100, "1": 7}})
    assert probe.devices() == (Gpu(0, "A", 1000, 110, 10), Gpu(1, "B", 500, 7, 0))
    assert probe.process_bytes() == {4711: {0: 100, 1: 7}}
    assert probe.knows_processes
    put(path, gpus=TWO[:1])
    assert probe.devices() == (Gpu(0, "A", 1000, 10, 10),)
    assert probe.process_bytes() == {}


def test_processes_speak_for_themselves_while_they_live(tmp_path: Path) -> None:
    told = tmp_path / "told"
    told.mkdir()
    probe = put(tmp_path / "gpus.json", gpus=TWO, process_dir=str(told))
    with subprocess.Popen([sys.executable, "-S", "-c", "input()"], stdin=subprocess.PIPE) as model:
        (told / str(model.pid)).write_text('{"0": 300, "9": 5}')
        (told / str(os.getpid())).write_text('{"0": 30')  # being written
        (told / "readme").write_text("not a process")
        assert probe.process_bytes() == {model.pid: {0: 300}}
        assert probe.devices()[0].used_bytes == 310
        model.kill()
        os.waitid(os.P_PID, model.pid, os.WEXITED | os.WNOWAIT)  # dead, and not yet reaped
        assert probe.process_bytes() == {}
        assert probe.devices()[0].used_bytes == 10


def test_a_table_may_play_a_gpu_that_hides_processes(tmp_path: Path) -> None:
    probe = put(tmp_path / "gpus.json", gpus=TWO, processes={"7": {"0": 90}}, knows_processes=False)
    assert not probe.knows_processes
    assert probe.process_bytes() == {}
    assert probe.devices()[0].used_bytes == 100


NONSENSE = [
    "",
    "{",
    "null",
    "[]",
    "{}",
    '{"gpus": 3}',
    '{"gpus": [{}]}',
    '{"gpus": [{"name": "A", "total_bytes": -1}]}',
    '{"gpus": [{"name": "A", "total_bytes": "24 GB"}]}',
    '{"gpus": [], "processes": {"me": {"0": 1}}}',
    '{"gpus": [], "processes": {"1": {"first": 1}}}',
    '{"gpus": [], "prozesse": {}}',
    "[" * 100_000,
    "\udcff",
]


@pytest.mark.parametrize("content", NONSENSE, ids=lambda content: content[:40])
def test_nonsense_is_refused_at_the_start_and_later_the_last_good_table_stays(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, content: str
) -> None:
    path = tmp_path / "gpus.json"
    probe = put(path, gpus=TWO)
    good = probe.devices()
    path.write_bytes(content.encode("utf-8", "surrogateescape"))
    with pytest.raises(SettingsError, match=r"gpu_probe is .*gpus\.json.*must be auto, none"):
        gpu_probe(str(path))
    assert probe.devices() == good
    assert probe.process_bytes() == {}
    assert probe.failed is not None
    assert len(caplog.records) == 1
    put(path, gpus=TWO)
    assert probe.devices() == good
    assert probe.failed is None


def vanished(path: Path) -> None:
    path.unlink()


def a_directory(path: Path) -> None:
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize("change", [vanished, a_directory])
def test_a_table_that_cannot_be_read_any_more_stays_as_it_was(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, change: Callable[[Path], None]
) -> None:
    path = tmp_path / "gpus.json"
    probe = put(path, gpus=TWO)
    good = probe.devices()
    change(path)
    assert probe.devices() == good
    assert probe.devices() == good
    assert len(caplog.records) == 1


def test_an_unknown_word_is_told_what_there_is() -> None:
    with pytest.raises(SettingsError, match="'nvml'; it must be auto, none, or a JSON file"):
        gpu_probe("nvml")
