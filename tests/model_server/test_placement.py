"""Which device a worker gets."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from model_server.placement import gpu_for


@given(st.integers(0, 16), st.integers(0, 10**6))
def test_the_cpu_when_it_is_asked_for(gpus: int, worker_id: int) -> None:
    assert gpu_for("cpu", gpus, worker_id) is None


@given(st.integers(0, 10**6))
def test_auto_without_a_gpu_is_the_cpu(worker_id: int) -> None:
    assert gpu_for("auto", 0, worker_id) is None


@pytest.mark.parametrize("device", ["auto", "cuda"])
@given(gpus=st.integers(1, 16), start=st.integers(0, 10**6))
def test_workers_take_turns_on_the_gpus_there_are(device: str, gpus: int, start: int) -> None:
    given_to = [gpu_for(device, gpus, start + number) for number in range(gpus)]
    assert sorted(gpu for gpu in given_to if gpu is not None) == list(range(gpus))


@given(st.integers(0, 16), st.integers(0, 999), st.integers(0, 100))
def test_a_number_is_taken_at_its_word(gpus: int, number: int, worker_id: int) -> None:
    assert gpu_for(f"cuda:{number}", gpus, worker_id) == number


def test_cuda_where_the_driver_shows_no_gpu_is_the_first_one() -> None:
    assert gpu_for("cuda", 0, 7) == 0
