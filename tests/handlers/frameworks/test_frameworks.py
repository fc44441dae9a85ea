"""What holds for every framework; the zygote relies on it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from handlers.directory.artifacts import Contents
from handlers.frameworks import FRAMEWORKS, for_artifact
from tests.environments import interpreter

ROOT = Path(__file__).parents[3]

# As in a zygote: preload, then fork twice and compute in the children.
FORKS = """
import os, random, sys
from pathlib import Path
from handlers.directory.artifacts import Contents
from handlers.frameworks import FRAMEWORKS

framework = FRAMEWORKS[sys.argv[1]]
framework.preload()
status = dict(line.split(":\\t", 1) for line in Path("/proc/self/status").read_text().splitlines())
print(status["Threads"].strip(), int(status["VmRSS"].split()[0]) << 10, flush=True)
for _ in range(2):
    pid = os.fork()
    if pid == 0:
        framework.after_fork(2)
        import numpy
        drawn = [random.random(), numpy.random.random()]
        if "torch" in sys.modules:
            import torch
            drawn += [torch.rand(1).item(), torch.get_num_threads()]
            torch.ones(512, 512) @ torch.ones(512, 512)
        if "tensorflow" in sys.modules:
            import tensorflow
            tensorflow.linalg.matmul(tensorflow.ones((512, 512)), tensorflow.ones((512, 512)))
        if "mxnet" in sys.modules:
            import mxnet
            mxnet.nd.dot(mxnet.nd.ones((512, 512)), mxnet.nd.ones((512, 512))).asnumpy()
            drawn.append(mxnet.nd.random.uniform(shape=(1,)).asscalar())
        numpy.ones((512, 512)) @ numpy.ones((512, 512))
        from threadpoolctl import threadpool_info
        blas = {pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"}
        print(*drawn, *sorted(blas), os.environ["OMP_NUM_THREADS"], flush=True)
        os._exit(0)
    assert os.waitpid(pid, 0)[1] == 0
"""


def run(code: str, *args: str, python: str = sys.executable) -> list[list[str]]:
    done = subprocess.run(
        [python, "-W", "error", "-c", code, *args],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
        timeout=100,
        env={"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    return [line.split() for line in done.stdout.splitlines()]


TOGETHER = [name for name, framework in FRAMEWORKS.items() if not framework.PINS]
APART = [name for name, framework in FRAMEWORKS.items() if framework.PINS]


def check_preload(name: str, python: str) -> list[list[str]]:
    (threads, resident), first, second = run(FORKS, name, python=python)
    assert threads == "1"
    assert FRAMEWORKS[name].resident_bytes == pytest.approx(int(resident), rel=0.4)
    assert len(first) == len(second) >= 2
    assert not set(first[:2]) & set(second[:2]), "children drew the same random numbers"
    assert first[-2:] == ["2", "2"], "BLAS has the threads that the model asked for"
    return [first, second]


@pytest.mark.parametrize("name", TOGETHER)
def test_preload_stays_on_one_thread_and_its_children_can_compute(name: str) -> None:
    first, second = check_preload(name, sys.executable)
    if name in ("pytorch", "huggingface"):
        assert first[2] != second[2]
        assert first[3] == "2"


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", APART)
def test_so_does_that_of_a_framework_in_its_own_environment(name: str) -> None:
    check_preload(name, interpreter(*FRAMEWORKS[name].PINS))


def test_importing_the_package_loads_no_framework() -> None:
    code = """
import sys
import handlers.service, handlers.inspection, handlers.weights
print(*sorted({"torch", "numpy", "sklearn", "joblib", "safetensors"} & set(sys.modules)))
"""
    assert run(code) == [[]]


def test_looking_for_a_framework_does_not_import_it() -> None:
    code = """
import sys
from handlers.directory.artifacts import Contents
from handlers.frameworks import FRAMEWORKS
print(all(framework.installed() for framework in FRAMEWORKS.values() if not framework.PINS))
print(*sorted({"torch", "numpy", "sklearn", "joblib", "safetensors"} & set(sys.modules)))
"""
    assert run(code) == [["True"], []]


def test_no_two_frameworks_claim_the_same_import_or_file() -> None:
    for member in ("MODULES", "EXTENSIONS"):
        claimed = [item for f in FRAMEWORKS.values() for item in getattr(f, member)]
        assert len(claimed) == len(set(claimed))


def test_an_artifact_finds_its_framework() -> None:
    found = for_artifact(Contents(Path("/m"), ("model.joblib", "readme.md")))
    assert found is not None
    assert (found[0].NAME, found[1]) == ("sklearn", "model.joblib")
    assert for_artifact(Contents(Path("/m"), ("readme.md",))) is None
