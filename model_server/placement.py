"""On which device a model runs: a pure decision."""

from __future__ import annotations

from collections.abc import Mapping


def choose_gpu(
    device: str, free_bytes: Mapping[int, int], load: Mapping[int, float], need_bytes: int
) -> int | None:
    """The GPU for a model with this ``device`` setting; None is the CPU.

    ``free_bytes`` are those of each GPU there is, by its index; below 0 when it is too full.
    ``load`` is how busy the models on it are, in any unit. Of the GPUs with room it is the least
    busy, then the emptiest; without room anywhere the emptiest, as the least must leave it.

    ``auto`` takes a GPU where there is one. A number is taken at its word, and ``cuda`` without any
    GPU is the first one: the framework says what is wrong.
    """
    kind, _, number = device.partition(":")
    if kind == "cpu" or (kind == "auto" and not free_bytes):
        return None
    if number:
        return int(number)
    if not free_bytes:
        return 0
    with_room = [index for index, free in free_bytes.items() if free >= need_bytes]
    if with_room:
        return min(with_room, key=lambda index: (load.get(index, 0.0), -free_bytes[index], index))
    return min(free_bytes, key=lambda index: (-free_bytes[index], index))
