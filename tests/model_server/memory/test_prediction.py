"""What a load is expected to take, from plain numbers."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from model_server.memory.ledger import MIB
from model_server.memory.prediction import (
    FLOOR_BYTES,
    GPU_FLOOR_BYTES,
    Sample,
    predict_gpu,
    predict_ram,
    predict_seconds,
    predict_worker_bytes,
)

BYTES = st.integers(0, 1 << 45)
SAMPLES = st.lists(st.builds(Sample, BYTES, st.floats(0, 1 << 45)), max_size=70)


def ram(
    weight_bytes: int, samples: Sequence[Sample] = (), *, workers: int = 1, shared: bool = False
) -> int:
    return predict_ram(weight_bytes=weight_bytes, workers=workers, shared=shared, samples=samples)


def heavy(ratio: float, weight_bytes: int = 200 * MIB) -> Sample:
    return Sample(weight_bytes, ratio * (weight_bytes + FLOOR_BYTES))


def test_a_model_of_an_unknown_framework_takes_its_weights_and_a_floor() -> None:
    assert ram(100) == ram(100, shared=True) == 100 + FLOOR_BYTES
    assert predict_gpu(weight_bytes=100, workers=1, samples=()) == 100 + GPU_FLOOR_BYTES


def test_each_process_takes_its_own_weights_unless_they_share_them() -> None:
    assert ram(100, workers=3) == 3 * (100 + FLOOR_BYTES)
    assert ram(100, workers=3, shared=True) == 100 + 4 * FLOOR_BYTES


def test_on_a_gpu_nothing_is_shared() -> None:
    assert predict_gpu(weight_bytes=100, workers=3, samples=()) == 3 * (100 + GPU_FLOOR_BYTES)


def test_one_model_that_took_more_is_not_enough_to_expect_more_but_two_are() -> None:
    assert ram(200 * MIB, [heavy(2.5)]) == ram(200 * MIB)
    assert ram(200 * MIB, [heavy(2.5)] * 2) == pytest.approx(2.5 * ram(200 * MIB), rel=1e-6)


def test_two_models_that_took_less_are_not_enough_to_expect_less_but_three_are() -> None:
    assert ram(200 * MIB, [heavy(0.1)] * 2) == ram(200 * MIB)
    assert ram(200 * MIB, [heavy(0.1)] * 3) == pytest.approx(0.1 * ram(200 * MIB), rel=1e-6)


def test_less_is_expected_only_as_far_as_all_took_less() -> None:
    samples = [heavy(0.1)] * 5 + [heavy(0.7)]
    assert ram(200 * MIB, samples) == pytest.approx(0.7 * ram(200 * MIB), rel=1e-6)


@pytest.mark.parametrize("others", [1, 3, 9])
def test_a_single_glutton_does_not_make_all_others_wait(others: int) -> None:
    assert ram(200 * MIB, [heavy(0.5)] * others + [heavy(50.0)]) == ram(200 * MIB)


def test_small_models_say_nothing_of_large_ones() -> None:
    small = [Sample(1000, 30 * MIB)] * 5
    assert ram(1000, small) == pytest.approx(30 * MIB, rel=1e-3)
    assert ram(200 * MIB, small) == ram(200 * MIB)


def test_large_models_say_nothing_of_small_ones() -> None:
    assert ram(1000, [heavy(9.0)] * 5) == ram(1000)


def test_the_models_nearest_in_size_are_asked() -> None:
    samples = [heavy(2.0, 20 * MIB)] * 10 + [heavy(1.2, 2000 * MIB)] * 10
    assert ram(1500 * MIB, samples) == pytest.approx(1.2 * ram(1500 * MIB), rel=1e-6)
    assert ram(30 * MIB, samples) == pytest.approx(2.0 * ram(30 * MIB), rel=1e-6)


@given(BYTES, SAMPLES)
def test_the_order_of_what_was_learned_of_models_of_one_size_does_not_matter(
    weight_bytes: int, samples: list[Sample]
) -> None:
    alike = [Sample(weight_bytes, sample.took) for sample in samples[:10]]
    assert ram(weight_bytes, alike) == ram(weight_bytes, alike[::-1])


@given(BYTES, SAMPLES, st.integers(1, 64), st.booleans())
def test_nobody_is_expected_to_take_less_than_nothing_and_sharing_costs_no_weights(
    weight_bytes: int, samples: list[Sample], workers: int, shared: bool
) -> None:
    expected = ram(weight_bytes, samples, workers=workers, shared=shared)
    assert expected >= 0
    assert predict_gpu(weight_bytes=weight_bytes, workers=workers, samples=samples) >= 0
    assert predict_seconds(weight_bytes=weight_bytes, samples=samples) >= 0


@given(st.integers(0, 1 << 40), st.floats(0.01, 20), st.integers(2, 60))
def test_a_model_like_all_before_it_takes_no_more_than_predicted(
    weight_bytes: int, ratio: float, seen: int
) -> None:
    taken = ratio * (weight_bytes + FLOOR_BYTES)
    predicted = ram(weight_bytes, [Sample(weight_bytes, taken)] * seen)
    assert predicted >= int(taken * (1 - 1e-9)) - 1


def test_a_load_is_expected_to_take_as_long_as_the_middle_of_others() -> None:
    samples = [Sample(1000, seconds) for seconds in (0.1, 0.2, 8.0, 9.0)]
    assert predict_seconds(weight_bytes=1000, samples=samples) == pytest.approx(0.2)


def test_without_others_more_weights_take_longer() -> None:
    small = predict_seconds(weight_bytes=0, samples=())
    assert small == pytest.approx(0.020)
    assert predict_seconds(weight_bytes=500 * MIB, samples=()) == pytest.approx(1.02)


def test_one_more_worker_takes_as_much_as_the_largest_and_never_less_than_a_floor() -> None:
    assert predict_worker_bytes([]) == FLOOR_BYTES
    assert predict_worker_bytes([1, FLOOR_BYTES * 3, 2]) == FLOOR_BYTES * 3
