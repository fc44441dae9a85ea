"""Which device a model gets."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from model_server.placement import choose_gpu

FREE = st.dictionaries(st.integers(0, 16), st.integers(-(1 << 40), 1 << 40))
LOAD = st.dictionaries(st.integers(0, 16), st.floats(0, 1e6))
NEED = st.integers(0, 1 << 40)


@given(FREE, LOAD, NEED)
def test_the_cpu_when_it_is_asked_for(
    free: dict[int, int], load: dict[int, float], need: int
) -> None:
    assert choose_gpu("cpu", free, load, need) is None


@given(LOAD, NEED)
def test_auto_without_a_gpu_is_the_cpu(load: dict[int, float], need: int) -> None:
    assert choose_gpu("auto", {}, load, need) is None


def test_cuda_where_there_is_no_gpu_is_the_first_one() -> None:
    assert choose_gpu("cuda", {}, {}, 7) == 0


@given(FREE, LOAD, NEED, st.integers(0, 999))
def test_a_number_is_taken_at_its_word(
    free: dict[int, int], load: dict[int, float], need: int, number: int
) -> None:
    assert choose_gpu(f"cuda:{number}", free, load, need) == number


@pytest.mark.parametrize("device", ["auto", "cuda"])
@given(free=FREE.filter(bool), load=LOAD, need=NEED)
def test_it_is_a_gpu_with_room_and_none_with_room_is_less_busy(
    device: str, free: dict[int, int], load: dict[int, float], need: int
) -> None:
    chosen = choose_gpu(device, free, load, need)
    assert chosen is not None
    with_room = [index for index in free if free[index] >= need]
    if with_room:
        assert chosen in with_room
        assert load.get(chosen, 0) == min(load.get(index, 0) for index in with_room)
    else:
        assert free[chosen] == max(free.values())


def test_of_gpus_that_are_equally_busy_it_is_the_emptiest_then_the_first() -> None:
    assert choose_gpu("auto", {0: 50, 1: 80, 2: 80}, {}, 10) == 1


def test_models_that_arrive_one_by_one_fill_all_gpus_alike() -> None:
    free = {0: 100, 1: 100, 2: 100}
    for _ in range(9):
        chosen = choose_gpu("auto", free, {}, 30)
        assert chosen is not None
        free[chosen] -= 30
    assert free == {0: 10, 1: 10, 2: 10}
